import { DaybookError } from '../errors.js'
import { exitCodeOf } from './exit-codes.js'
import { printable } from './printable.js'

export interface ReportOptions {
  readonly json: boolean
  /** add the stack */
  readonly debug: boolean
}

/**
 * Say what went wrong, on standard error: "daybook: fact" and a line with a hint, or with --json an object as restic's.
 * @returns the exit code
 */
export function reportError(error: unknown, { json, debug }: ReportOptions): number {
  const code = exitCodeOf(error)
  process.stderr.write(json ? JSON.stringify(jsonError(error, code)) + '\n' : textError(error))
  if (debug && error instanceof Error) process.stderr.write(stackOf(error))
  return code
}

function jsonError(error: unknown, code: number): object {
  return { message_type: 'exit_error', code, message: messageOf(error), hint: hintOf(error), error: (error as { code?: unknown } | null)?.code }
}

function textError(error: unknown): string {
  const hint = hintOf(error)
  return `daybook: ${printable(messageOf(error))}\n${hint === undefined ? '' : `hint: ${printable(hint)}\n`}`
}

/** Node's words for it list what was tried, over many lines. */
function isAddonMissing(error: unknown): boolean {
  const { code, message } = (error ?? {}) as { code?: unknown, message?: unknown }
  return (code === 'MODULE_NOT_FOUND' || code === 'ERR_DLOPEN_FAILED') && typeof message === 'string'
}

function messageOf(error: unknown): string {
  if (isAddonMissing(error)) return `a part cannot be loaded: ${(error as Error).message.split('\n')[0]}`
  return error instanceof Error ? error.message || error.name : String(error)
}

function hintOf(error: unknown): string | undefined {
  if (error instanceof DaybookError) return error.hint
  if (isAddonMissing(error)) return 'daybook doctor says what is missing and how to mend it'
  // A fault that has no name of ours is a fault of ours, or of the machine: then its own words must do.
  return (error as NodeJS.ErrnoException | null)?.syscall === undefined ? 'run it again with -vv to see where' : undefined
}

function stackOf(error: Error): string {
  const { cause } = error
  return `${error.stack ?? error.message}\n${cause instanceof Error ? `caused by: ${stackOf(cause)}` : ''}`
}
