import { abortedError } from '../util/abort.js'

/** Where a person can be asked. */
export interface Terminal {
  /** somebody can answer more than once, and echo must be off */
  readonly interactive: boolean
  readonly input: NodeJS.ReadableStream & { setRawMode?(on: boolean): unknown }
  /** the question goes there; not standard output, which may be read by a program */
  write(text: string): void
}

export function standardTerminal(): Terminal {
  return { interactive: process.stdin.isTTY === true, input: process.stdin, write: text => { process.stderr.write(text) } }
}

const ENTER = [0x0a, 0x0d]
const CTRL_C = 0x03
const CTRL_D = 0x04
const BACKSPACE = [0x08, 0x7f]
const CTRL_U = 0x15
/** a longer line is no password */
const MAX_LENGTH = 4096

/**
 * One line, as bytes, without showing it. On a terminal the line can be edited with backspace and Ctrl-U; Ctrl-C gives up (ERR_ABORTED).
 * From a pipe it is the first line, without its line end.
 */
export async function promptPassword(terminal: Terminal, question: string, { signal }: { signal?: AbortSignal } = {}): Promise<Buffer> {
  const { input, interactive } = terminal
  if (signal?.aborted) throw abortedError(signal)
  if (interactive) {
    // Echo is off before anybody can know that an answer is wanted.
    input.setRawMode?.(true)
    terminal.write(question)
  }
  let line: number[] = []
  try {
    await new Promise<void>((resolve, reject) => {
      const onData = (chunk: Buffer | string) => {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
        for (let i = 0; i < bytes.length; i++) {
          const byte = bytes[i]
          if (ENTER.includes(byte)) {
            settle(resolve)
            return
          }
          if (!interactive) line.push(byte)
          else if (byte === CTRL_C) return settle(() => reject(abortedError()))
          else if (byte === CTRL_D) { if (line.length === 0) return settle(resolve) }
          else if (BACKSPACE.includes(byte)) eraseCharacter(line)
          else if (byte === CTRL_U) line = []
          else line.push(byte)
          if (line.length > MAX_LENGTH) return settle(resolve)
        }
        bytes.fill(0)
      }
      const onEnd = () => settle(resolve)
      const onError = (error: Error) => settle(() => reject(error))
      const onAbort = () => settle(() => reject(abortedError(signal)))
      const settle = (outcome: () => void) => {
        input.off('data', onData).off('end', onEnd).off('error', onError)
        signal?.removeEventListener('abort', onAbort)
        input.pause()
        outcome()
      }
      input.on('data', onData).on('end', onEnd).on('error', onError)
      signal?.addEventListener('abort', onAbort, { once: true })
      input.resume()
    })
  } finally {
    if (interactive) {
      input.setRawMode?.(false)
      terminal.write('\n')
    }
  }
  const password = Buffer.from(line)
  line.fill(0)
  return password
}

/** The last character of UTF-8: its first byte and those that continue it. */
function eraseCharacter(line: number[]): void {
  let byte: number | undefined
  do byte = line.pop()
  while (byte !== undefined && (byte & 0xc0) === 0x80)
}
