import { constants } from 'node:os'
import type { ErrorCode } from '../errors.js'
import type { FsErrorCode } from '../fs/fs-error.js'

const { errno } = constants

/** What each error of the layers below becomes for the caller of a system call; a new code does not compile without a number. */
const ERRNO = {
  EIO: errno.EIO, ENOENT: errno.ENOENT, ENODATA: errno.ENODATA, ERANGE: errno.ERANGE, ENXIO: errno.ENXIO,
  EINVAL: errno.EINVAL, ESTALE: errno.ESTALE, ENOTDIR: errno.ENOTDIR,
  // a file of the repository that is missing is not a missing name: the entry is there, its bytes are not
  ERR_NOT_FOUND: errno.EIO, ERR_CORRUPT: errno.EIO, ERR_UNREACHABLE: errno.EIO, ERR_ABORTED: errno.EIO,
  ERR_WRONG_PASSWORD: errno.EIO, ERR_NO_REPOSITORY: errno.EIO, ERR_UNSUPPORTED: errno.EIO, ERR_USAGE: errno.EIO, ERR_INDEX: errno.EIO,
  ERR_LOCKED: errno.EIO,
} satisfies Record<ErrorCode | FsErrorCode, number>

/** @returns errno, EIO for whatever is not ours; never ENOSYS, which would switch the operation off for the whole mount */
export function errnoOf(error: unknown): number {
  const code = (error as { code?: string } | null)?.code
  return code !== undefined && Object.hasOwn(ERRNO, code) ? ERRNO[code as keyof typeof ERRNO] : errno.EIO
}

/** Errors that are an answer, not news: the log does not hear of them. */
export function isOrdinary(error: unknown): boolean { return errnoOf(error) !== errno.EIO }
