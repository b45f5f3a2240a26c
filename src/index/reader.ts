import type Database from 'better-sqlite3'
import { native } from '../native.js'
import { isLocation, isPack, rowsChecksum, textChecksum } from './checksum.js'
import { close, openDatabase } from './database.js'
import { DamagedIndexError } from './failure.js'
import type { BlobLocation, PackedBlob } from './index.js'
import { bootChecksum } from './migrate.js'
import { flagsOf } from './schema.js'

/** Seconds for which packsWithoutRows leaves out a pack marked as tried. */
export const TRIED_SECONDS = 24 * 3600

type LocationRow = [pack: number, offset: number, length: number, plainLength: number, checksum: number]

/** What rows() found: `bad` rows are to be deleted. */
export type StoredRows = { rows: Buffer } | 'bad' | null

/**
 * Reads, on the caller's thread. Everything is verified; a check value that does not fit throws DamagedIndexError.
 *
 * SQLite takes and drops a lock for each read outside of a transaction, which is two thirds of a lookup's time (4.1 against 1.3 us). So the first read
 * of a turn of the event loop begins a transaction, and it ends with the turn: the log must not wait for readers. endTurn() ends it earlier,
 * for one who has just been told of a write.
 */
export class Reader {
  readonly identity: string
  readonly #db: Database.Database
  readonly #begin: Database.Statement<[]>
  readonly #commit: Database.Statement<[]>
  readonly #dataBlob: Database.Statement<[Uint8Array], LocationRow>
  readonly #treeBlob: Database.Statement<[Uint8Array], LocationRow>
  readonly #holds: Record<'data' | 'tree', Database.Statement<[Uint8Array], number>>
  readonly #pack: Database.Statement<[number], [name: Buffer, checksum: number]>
  readonly #rank: Database.Statement<[number], number>
  readonly #treesEnd: Database.Statement<[number], number>
  readonly #rows: Database.Statement<[Uint8Array], [rows: Buffer, checksum: number]>
  readonly #flags: Database.Statement<[], number>
  readonly #endTurn = () => this.endTurn()
  #inTurn = false

  constructor(file: string) {
    const { db, identity } = openDatabase(file, { cacheKiB: 4096, busyMs: 100 })
    this.#db = db
    this.identity = identity
    try {
      db.pragma('query_only = ON')
      this.#begin = db.prepare('BEGIN')
      this.#commit = db.prepare('COMMIT')
      this.#dataBlob = db.prepare<[Uint8Array], LocationRow>('SELECT pack, offset, length, plain_length, checksum FROM data_blobs WHERE id = ?').raw()
      this.#treeBlob = db.prepare<[Uint8Array], LocationRow>('SELECT pack, offset, length, plain_length, checksum FROM tree_blobs WHERE id = ?').raw()
      const holds = (table: string) => db.prepare<[Uint8Array], number>(
        `SELECT 1 FROM ${table} b JOIN packs p USING (pack) WHERE b.id = ? AND p.to_delete = 0 AND p.gone = 0`).pluck()
      this.#holds = { data: holds('data_blobs'), tree: holds('tree_blobs') }
      this.#pack = db.prepare<[number], [Buffer, number]>('SELECT name, checksum FROM packs WHERE pack = ?').raw()
      this.#rank = db.prepare<[number], number>('SELECT to_delete + 2 * gone FROM packs WHERE pack = ?').pluck()
      this.#treesEnd = db.prepare<[number], number>('SELECT offset + length FROM tree_blobs WHERE pack = ? ORDER BY offset DESC LIMIT 1').pluck()
      this.#rows = db.prepare<[Uint8Array], [Buffer, number]>('SELECT rows, checksum FROM tree_rows WHERE id = ?').raw()
      this.#flags = db.prepare<[], number>(`SELECT value FROM meta WHERE name = 'flags'`).pluck()
    } catch (error) {
      close(db)
      throw error
    }
  }

  locate(id: Uint8Array): BlobLocation[] {
    this.#turn()
    const data = this.#dataBlob.all(id)
    const rows = data.length === 0 ? this.#treeBlob.all(id) : data
    const locations: BlobLocation[] = []
    for (const [pack, offset, length, plainLength, checksum] of rows) {
      if (!isLocation(id, pack, offset, length, plainLength, checksum)) throw new DamagedIndexError('checksum of a blob')
      locations.push({ pack, offset, length, plainLength })
    }
    return locations.length < 2 ? locations : this.#bestFirst(locations)
  }

  holds(type: 'data' | 'tree', id: Uint8Array): boolean {
    this.#turn()
    return this.#holds[type].get(id) !== undefined
  }

  packName(pack: number): string {
    this.#turn()
    const row = this.#pack.get(pack)
    if (!row) return ''
    if (!isPack(pack, row[0], row[1])) throw new DamagedIndexError('checksum of a pack')
    return row[0].toString('hex')
  }

  treesEnd(pack: number): number {
    this.#turn()
    return this.#treesEnd.get(pack) ?? 0
  }

  hasPack(name: string): boolean {
    return this.#db.prepare('SELECT 1 FROM packs WHERE name = ? AND gone = 0').get(Buffer.from(name, 'hex')) !== undefined
  }

  treesWithoutRows(pack: number, from: number, limit: number): PackedBlob[] {
    this.#turn()
    const rows = this.#db.prepare<[number, number, number], [Buffer, number, number, number, number]>(`
      SELECT id, offset, length, plain_length, checksum FROM tree_blobs t
      WHERE pack = ? AND offset >= ? AND NOT EXISTS (SELECT 1 FROM tree_rows r WHERE r.id = t.id) ORDER BY offset LIMIT ?`).raw().all(pack, from, limit)
    return rows.map(([id, offset, length, plainLength, checksum]) => {
      if (!isLocation(id, pack, offset, length, plainLength, checksum)) throw new DamagedIndexError('checksum of a tree blob')
      return { id, pack, offset, length, plainLength }
    })
  }

  packsWithoutRows(limit: number): number[] {
    const before = Math.floor(Date.now() / 1000) - TRIED_SECONDS
    return this.#db.prepare<[number, number], number>(
      'SELECT pack FROM packs WHERE missing > 0 AND gone = 0 AND tried < ? ORDER BY to_delete, pack DESC LIMIT ?').pluck().all(before, limit)
  }

  missingTrees(which?: 'tried'): number {
    const before = which === 'tried' ? Math.floor(Date.now() / 1000) - TRIED_SECONDS : 0
    return this.#db.prepare<[number], number>('SELECT ifnull(sum(missing), 0) FROM packs WHERE missing > 0 AND gone = 0 AND tried >= ?').pluck().get(before)!
  }

  rows(tree: Uint8Array): StoredRows {
    this.#turn()
    const row = this.#rows.get(tree)
    if (!row) return null
    const [rows, checksum] = row
    return Buffer.isBuffer(rows) && rowsChecksum(tree, rows) === checksum && native.verifyRows(rows) ? { rows } : 'bad'
  }

  flags(): number {
    this.#turn()
    const flags = flagsOf(this.#flags.get() ?? -1)
    if (flags === null) throw new DamagedIndexError('flags')
    return flags
  }

  indexFiles(): Set<string> {
    const names = this.#db.prepare<[], Buffer>('SELECT name FROM index_files WHERE complete = 1 AND length(name) = 32').pluck().all()
    return new Set(names.map(name => name.toString('hex')))
  }

  snapshots(): Map<string, string> {
    const rows = this.#db.prepare<[], [string, string, number]>('SELECT name, json, checksum FROM snapshots').raw().all()
    return new Map(rows.map(([name, json, checksum]) => {
      if (textChecksum(name, json) !== checksum) throw new DamagedIndexError('checksum of a snapshot')
      return [name, json]
    }))
  }

  dayNames(view: string): Map<string, string> {
    const rows = this.#db.prepare<[string], [string, string, number]>('SELECT snapshot, name, checksum FROM day_names WHERE view = ?').raw().all(view)
    return new Map(rows.map(([snapshot, name, checksum]) => {
      if (textChecksum(view, snapshot, name) !== checksum) throw new DamagedIndexError('checksum of a name')
      return [snapshot, name]
    }))
  }

  checkedSinceBoot(): boolean {
    return this.#db.prepare(`SELECT 1 FROM meta WHERE name = 'boot' AND value = ?`).get(bootChecksum()) !== undefined
  }

  /** What is read next is what was committed last. */
  endTurn(): void {
    if (!this.#inTurn) return
    this.#inTurn = false
    // Never throws: it runs in a turn of its own. What is wrong will be seen by the next read.
    try { this.#commit.run() } catch {
      try { this.#db.exec('ROLLBACK') } catch { /* no transaction is left */ }
    }
  }

  close(): void {
    this.#inTurn = false
    close(this.#db)
  }

  #turn(): void {
    if (this.#inTurn) return
    this.#begin.run()
    this.#inTurn = true
    setImmediate(this.#endTurn)
  }

  // Packs marked for deletion behind others, packs no longer listed last.
  #bestFirst(locations: BlobLocation[]): BlobLocation[] {
    const ranked = locations.map(location => ({ location, rank: this.#rank.get(location.pack) ?? 4 }))
    return ranked.sort((a, b) => a.rank - b.rank).map(({ location }) => location)
  }
}
