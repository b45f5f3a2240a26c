import type Database from 'better-sqlite3'
import { isLocation, isPack } from './checksum.js'
import { single } from './database.js'
import { DamagedIndexError } from './failure.js'
import { COUNTED } from './schema.js'

type Row = [id: Buffer, pack: number, offset: number, length: number, plainLength: number, checksum: number]

/**
 * Read everything: structure, check values of places, and that no entry is lost. Rows of trees and texts are left to those who read them:
 * they are verified then, and one that is missing is fetched again.
 * @throws DamagedIndexError, or what SQLite says
 */
export function checkIndex(db: Database.Database): void {
  const answer = db.pragma('quick_check(1)', { simple: true })
  if (answer !== 'ok') throw new DamagedIndexError(String(answer))
  for (const table of COUNTED) checkCount(db, table)
  for (const table of ['data_blobs', 'tree_blobs']) {
    const rows = db.prepare<[], Row>(`SELECT id, pack, offset, length, plain_length, checksum FROM ${table}`).raw()
    for (const [id, pack, offset, length, plainLength, checksum] of rows.iterate()) {
      if (!isLocation(id, pack, offset, length, plainLength, checksum)) throw new DamagedIndexError('checksum of a blob')
    }
  }
  for (const [pack, name, checksum] of db.prepare<[], [number, Buffer, number]>('SELECT pack, name, checksum FROM packs').raw().iterate()) {
    if (!isPack(pack, name, checksum)) throw new DamagedIndexError('checksum of a pack')
  }
}

// Both in one statement, and so of one moment: other processes go on writing.
function checkCount(db: Database.Database, table: string): void {
  const difference = single(db, `SELECT (SELECT count(*) FROM ${table}) - (SELECT value FROM meta WHERE name = 'count:${table}')`)
  if (difference !== 0) throw new DamagedIndexError(`${difference} rows too many in ${table}`)
}
