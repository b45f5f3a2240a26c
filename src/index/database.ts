import Database from 'better-sqlite3'
import { classify, DamagedIndexError, MovedIndexError } from './failure.js'
import { identity } from './location.js'
import { OPEN_BUSY_MS, prepareSchema } from './migrate.js'

export interface DatabaseOptions {
  /** KiB of pages kept in memory */
  cacheKiB: number
  /** ms to wait for a lock of another connection */
  busyMs: number
  /** what identity(file) must be; else MovedIndexError */
  expected?: string
}

/**
 * Open an index file which exists (location.ts, prepare), and make its tables if there are none.
 * No mmap: a file cut short under a mapping would end the process (SIGBUS) instead of giving an error. What remains is the log's shared memory
 * (index.db-shm, 32 KiB), which WAL cannot do without; deleting it is harmless, cutting it short is not.
 * synchronous=OFF: what a power cut leaves is noticed (checksums, counts: check-index.ts) and built again. The first load took 5.6 s so, 10.5 s with NORMAL.
 * @throws errors for classify()
 */
export function openDatabase(file: string, { cacheKiB, busyMs, expected }: DatabaseOptions): { db: Database.Database, identity: string } {
  const before = identity(file)
  if (before === '' || (expected !== undefined && before !== expected)) throw new MovedIndexError(`${file} has moved`)
  const db = new Database(file, { fileMustExist: true, timeout: OPEN_BUSY_MS })
  try {
    db.pragma(`cache_size = -${cacheKiB}`)
    db.pragma('mmap_size = 0')
    db.pragma('temp_store = MEMORY')
    db.pragma('trusted_schema = OFF')
    db.pragma('cell_size_check = ON')
    db.pragma('synchronous = OFF')
    // The first read opens the log by name. Was it still the same folder, before anything is written to it?
    db.pragma('user_version')
    if (identity(file) !== before) throw new MovedIndexError(`${file} has moved`)
    prepareSchema(db)
    if (identity(file) !== before) throw new MovedIndexError(`${file} has moved`)
    assertWritable(db)
    db.pragma(`busy_timeout = ${busyMs}`)
    return { db, identity: before }
  } catch (error) {
    close(db)
    throw error
  }
}

// SQLite opens a file for reading only, without a word, where it may not be written.
function assertWritable(db: Database.Database): void {
  try { db.exec('BEGIN IMMEDIATE; ROLLBACK') } catch (error) {
    if (classify(error) !== 'busy') throw error
  }
}

/** Close without an error: what cannot be written any more is not needed. */
export function close(db: Database.Database): void {
  try { db.close() } catch { /* its files are damaged */ }
}

/** The value of a pragma or of a single-column query, which must be there. */
export function single(db: Database.Database, sql: string): number {
  const value = db.prepare(sql).pluck().get()
  if (typeof value !== 'number') throw new DamagedIndexError(`no value from ${sql}`)
  return value
}
