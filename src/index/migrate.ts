import type { Database } from 'better-sqlite3'
import { readFileSync } from 'node:fs'
import { textChecksum } from './checksum.js'
import { single } from './database.js'
import { classify, DamagedIndexError } from './failure.js'
import { APPLICATION_ID, COUNTED, PAGE_SIZE, SCHEMA, SCHEMA_VERSION } from './schema.js'

/** ms to wait for locks while opening */
export const OPEN_BUSY_MS = 1500

/**
 * Make the tables in an empty file, or see that they are ours. There is nothing to migrate: each version has its own folder, and
 * filling a new index takes seconds. Several processes may do this at once.
 * @throws DamagedIndexError where the file is of another program or version
 */
export function prepareSchema(db: Database): void {
  if (!isEmpty(db)) return verify(db)
  db.pragma(`page_size = ${PAGE_SIZE}`)
  retryBusy(() => db.pragma('journal_mode = WAL'))
  retryBusy(() => db.exec('BEGIN IMMEDIATE'))
  try {
    if (isEmpty(db)) create(db)
    db.exec('COMMIT')
  } catch (error) {
    if (db.inTransaction) db.exec('ROLLBACK')
    throw error
  }
  verify(db)
}

function isEmpty(db: Database): boolean {
  return single(db, 'PRAGMA user_version') === 0 && single(db, 'SELECT count(*) FROM sqlite_schema') === 0
}

function create(db: Database): void {
  db.exec(SCHEMA)
  const meta = db.prepare('INSERT INTO meta (name, value) VALUES (?, ?)')
  // Four bytes each in every blob's row, wherever they begin.
  meta.run('nextPack', 0x1000000 + Math.floor(Math.random() * 0x3000) * 0x10000)
  meta.run('flags', 0)
  meta.run('boot', bootChecksum())
  for (const table of COUNTED) meta.run(`count:${table}`, 0)
  db.pragma(`application_id = ${APPLICATION_ID}`)
  db.pragma(`user_version = ${SCHEMA_VERSION}`)
}

function verify(db: Database): void {
  const version = single(db, 'PRAGMA user_version')
  const application = single(db, 'PRAGMA application_id')
  if (version !== SCHEMA_VERSION || application !== APPLICATION_ID) throw new DamagedIndexError(`version ${version}, application ${application}`)
  if (db.pragma('journal_mode', { simple: true }) !== 'wal') retryBusy(() => db.pragma('journal_mode = WAL'))
}

// Where two connections change the journal mode of a new file at once, SQLite answers "busy" without waiting. One of them is done in milliseconds:
// an empty file that stays locked is one that was emptied while another process had it open, and nobody will make tables in it.
function retryBusy(action: () => void): void {
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  const deadline = Date.now() + OPEN_BUSY_MS
  for (;;) {
    try { return action() } catch (error) {
      if (classify(error) !== 'busy') throw error
      if (Date.now() > deadline) throw new DamagedIndexError('empty, and locked')
      Atomics.wait(sleeper, 0, 0, 5 + Math.random() * 20)
    }
  }
}

/** Stands for this run of the kernel: an index last checked before it may have lost pages with the power. */
export function bootChecksum(): number {
  try { return textChecksum(readFileSync('/proc/sys/kernel/random/boot_id', 'latin1')) } catch { return 0 }
}
