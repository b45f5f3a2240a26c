import { closeSync, writeSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { DaybookError, type ErrorCode } from '../errors.js'

/** What a mount process in the background says to the one that started it: one JSON object per line on a pipe, the last of them 'ready' or 'failed'. */
export type ReadyMessage =
  | { readonly type: 'progress', readonly stage: string, readonly done: number, readonly total: number | null }
  | { readonly type: 'ready', readonly snapshots: number, readonly newest: string | null }
  | { readonly type: 'failed', readonly code: ErrorCode | null, readonly message: string, readonly hint?: string, readonly stack?: string }

export type Outcome = Exclude<ReadyMessage, { type: 'progress' }>

/** The descriptor at which a mount process in the background finds the pipe. */
export const READY_FD = 3

/** The child's end. Closes itself behind the outcome; a parent that has gone away is no error. */
export class ReadyPipe {
  #open = true
  constructor(readonly fd = READY_FD) {}

  tell(message: ReadyMessage): void {
    if (!this.#open) return
    try {
      writeSync(this.fd, JSON.stringify(message) + '\n')
      if (message.type === 'progress') return
      closeSync(this.fd)
    } catch { /* EPIPE: nobody waits any more */ }
    this.#open = message.type === 'progress'
  }

  fail(error: unknown): void {
    const { message, stack } = error instanceof Error ? error : new Error(String(error))
    const known = error instanceof DaybookError ? error : null
    this.tell({ type: 'failed', code: known?.code ?? null, message, hint: known?.hint, stack })
  }
}

/** The parent's end: lines as they come, whole or in pieces. @returns the outcome, or null if the pipe closed without one */
export async function readOutcome(pipe: AsyncIterable<Buffer>, onProgress: (stage: string, done: number, total: number | null) => void): Promise<Outcome | null> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  for await (const chunk of pipe) {
    const lines = (rest + decoder.write(chunk)).split('\n')
    rest = lines.pop()!
    for (const line of lines) {
      const message = JSON.parse(line) as ReadyMessage
      if (message.type !== 'progress') return message
      onProgress(message.stage, message.done, message.total)
    }
  }
  return null
}

/** The error a 'failed' stands for, as if it had happened here. */
export function errorOf({ code, message, hint, stack }: Extract<Outcome, { type: 'failed' }>): Error {
  const error = code === null ? new Error(message) : new DaybookError(code, message, hint)
  if (stack !== undefined) error.stack = stack
  return error
}
