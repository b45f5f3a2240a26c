/** SQLite found nothing wrong, we did: a check value, a version, a count. */
export class DamagedIndexError extends Error {
  override readonly name = 'DamagedIndexError'
  readonly code = 'DAYBOOK_DAMAGED'
}
/** The path leads to another file than the one that is open: deleted, or replaced by another process. */
export class MovedIndexError extends Error {
  override readonly name = 'MovedIndexError'
  readonly code = 'DAYBOOK_MOVED'
}

/**
 * What to do about an error of the index.
 * - `busy`: another process has the lock; later
 * - `damaged`: the content cannot be trusted; set it aside and begin anew in the same place
 * - `moved`: open what is at the path now
 * - `unusable`: nothing can be written here (full, read-only, forbidden, broken); leave it as it is and go elsewhere
 * - `bug`: not the index's state at all
 */
export type Failure = 'busy' | 'damaged' | 'moved' | 'unusable' | 'bug'

const DAMAGED = [
  'DAYBOOK_DAMAGED', 'SQLITE_CORRUPT', 'SQLITE_NOTADB', 'SQLITE_FORMAT', 'SQLITE_EMPTY', 'SQLITE_MISMATCH', 'SQLITE_CONSTRAINT', 'SQLITE_SCHEMA',
  'SQLITE_RANGE',
  'SQLITE_IOERR_READ', 'SQLITE_IOERR_SHORT_READ', 'SQLITE_IOERR_CORRUPTFS', 'SQLITE_IOERR_DATA',
]
const UNUSABLE = [
  'SQLITE_FULL', 'SQLITE_IOERR', 'SQLITE_CANTOPEN', 'SQLITE_READONLY', 'SQLITE_PERM', 'SQLITE_AUTH', 'SQLITE_NOLFS', 'SQLITE_PROTOCOL', 'SQLITE_NOMEM',
  'SQLITE_TOOBIG',
]
const BUSY = ['SQLITE_BUSY', 'SQLITE_LOCKED']

/** `error`: of better-sqlite3, of node:fs, or one of the two above; from a worker it has lost its class, so only `code` counts. */
export function classify(error: unknown): Failure {
  const { code = '', message = '' } = error as NodeJS.ErrnoException
  const is = (family: string[]) => family.some(name => code === name || code.startsWith(name + '_'))
  if (code === 'DAYBOOK_MOVED' || code === 'SQLITE_READONLY_DBMOVED') return 'moved'
  if (is(BUSY)) return 'busy'
  if (is(DAMAGED)) return 'damaged'
  if (is(UNUSABLE)) return 'unusable'
  // "no such table", "malformed database schema": every statement here is right for a sound schema.
  if (code.startsWith('SQLITE_')) return 'damaged'
  if (/^E[A-Z0-9]+$/.test(code)) return 'unusable'
  // better-sqlite3 checks by itself, without a code.
  if (message.includes('directory does not exist')) return 'moved'
  return 'bug'
}
