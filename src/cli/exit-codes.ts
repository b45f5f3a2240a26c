import type { ErrorCode } from '../errors.js'
import { BusyError } from '../mount/unmount.js'

/** What commands exit with. 3 (of `backup`), 10, 11, 12 and 130 mean what they mean in restic (its "Scripting" chapter), so that its scripts can be kept. */
export const EXIT = { ok: 0, failure: 1, usage: 2, incomplete: 3, unwell: 3, noMount: 4, noRepository: 10, locked: 11, wrongPassword: 12, cancelled: 130, brokenPipe: 141 } as const

const EXIT_OF = {
  ERR_NOT_FOUND: EXIT.failure,
  ERR_CORRUPT: EXIT.failure,
  ERR_UNREACHABLE: EXIT.failure,
  ERR_ABORTED: EXIT.cancelled,
  ERR_WRONG_PASSWORD: EXIT.wrongPassword,
  ERR_NO_REPOSITORY: EXIT.noRepository,
  ERR_UNSUPPORTED: EXIT.failure,
  ERR_USAGE: EXIT.usage,
  ERR_INDEX: EXIT.failure,
  ERR_LOCKED: EXIT.locked,
} as const satisfies Record<ErrorCode, number>

export function exitCodeOf(error: unknown): number {
  if (error instanceof BusyError) return EXIT.failure
  const { code } = (error ?? {}) as { code?: unknown }
  return EXIT_OF[code as ErrorCode] ?? EXIT.failure
}

export const EXIT_CODES_HELP = `
Exit codes:
  0    done
  1    failed
  2    the command line, or what it names, is wrong
  3    a backup was made, but something could not be read; some snapshots could not be removed
  10   there is no repository
  11   the repository is locked
  12   wrong password
  130  cancelled (SIGINT, SIGTERM)`

export const STATUS_EXIT_CODES_HELP = `
Exit codes:
  0    all is well
  1    failed
  2    the command line, or what it names, is wrong
  3    something is wrong: a location is down, something was found damaged, or a mount's process is dead or hangs
  4    there is no such mount, or none at all`
