import type Database from 'better-sqlite3'
import { INDEX_RECORD_LENGTH, IndexBlobType } from '../format/index-record.js'
import { isPack, locationChecksum, packChecksum } from './checksum.js'
import { DamagedIndexError } from './failure.js'
import type { Counts, IndexRecords } from './jobs.js'
import { TRANSACTION_BLOBS } from './limits.js'
import { release } from './release.js'
import { count } from './transactions.js'
import type { Transactions } from './transactions.js'

type BlobTable = 'data_blobs' | 'tree_blobs'
type BlobValue = Uint8Array | number
type Insert = Database.Statement<BlobValue[]>

/** Rows per statement: 3.8 us per blob with one, 3.1 with 20; more gains nothing. */
const ROWS_PER_INSERT = 20
/** Name of the entry in index_files to which packs known from their header belong. */
const HEADERS = Buffer.alloc(0)

/**
 * Adds index files. First the packs get their numbers, then blobs are added in pieces of some ten thousand, last the file is marked complete: another
 * process is never kept waiting long, and what a crash leaves is simply added again.
 */
export class AddIndexFile {
  readonly #db: Database.Database
  readonly #transactions: Transactions
  readonly #inserts: Record<BlobTable, { one: Insert, many: Insert }>

  constructor(db: Database.Database, transactions: Transactions) {
    this.#db = db
    this.#transactions = transactions
    this.#inserts = { data_blobs: insertsInto(db, 'data_blobs'), tree_blobs: insertsInto(db, 'tree_blobs') }
  }

  /** `index` is empty afterwards. */
  fromIndexFile(name: Uint8Array, index: IndexRecords): void {
    try {
      this.#addInPieces(name, index)
    } finally {
      release([index.packs, index.blobs])
    }
  }

  /** @param fields per blob: 1 for a tree, offset, length, plain length */
  fromHeader(name: Uint8Array, ids: Uint8Array, fields: Float64Array): void {
    const index = recordsOfHeader(name, ids, fields)
    // In one transaction: nothing but hasPack() says later whether it was done.
    this.#transactions.write(counts => {
      const { file, packs } = this.#addPacks(HEADERS, index, counts)!
      for (const { table, records } of pieces(index)) count(counts, table, this.#addBlobs(table, records, packs))
      this.#finish(file, packs)
    })
  }

  #addInPieces(name: Uint8Array, index: IndexRecords): void {
    const begun = this.#transactions.write(counts => this.#addPacks(name, index, counts))
    if (!begun) return
    const { file, packs } = begun
    for (const { table, records } of pieces(index)) {
      const added = this.#transactions.write(counts => {
        // Removed meanwhile by another process: these packs are on their way out.
        if (!this.#stillThere(file)) return false
        count(counts, table, this.#addBlobs(table, records, packs))
        return true
      })
      if (!added) return
    }
    this.#transactions.write(() => this.#finish(file, packs))
  }

  /** @returns null if there is nothing left to do, else the number of the file and those of its packs */
  #addPacks(name: Uint8Array, index: IndexRecords, counts: Counts): { file: number, packs: Float64Array } | null {
    const db = this.#db
    const isHeader = name.length === 0
    const known = db.prepare<[Uint8Array], [number, number]>('SELECT file, complete FROM index_files WHERE name = ?').raw().get(name)
    if (known && known[1] === 1 && !isHeader) return null
    const now = Math.floor(Date.now() / 1000)
    const file = known ? known[0] : Number(db.prepare('INSERT INTO index_files (name, complete, started) VALUES (?, 0, ?)').run(name, now).lastInsertRowid)
    if (known) db.prepare('UPDATE index_files SET started = ? WHERE file = ?').run(now, file)

    let next = db.prepare<[], number>(`SELECT value FROM meta WHERE name = 'nextPack'`).pluck().get()
    if (next === undefined) throw new DamagedIndexError('no next pack')
    const find = db.prepare<[Uint8Array], [pack: number, checksum: number]>('SELECT pack, checksum FROM packs WHERE name = ?').raw()
    const insert = db.prepare('INSERT INTO packs (pack, name, checksum) VALUES (?, ?, ?)')
    const list = db.prepare(
      'INSERT INTO index_packs (file, pack, to_delete) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET to_delete = min(to_delete, excluded.to_delete)')
    const listed = db.prepare('SELECT 1 FROM index_packs WHERE file = ? AND pack = ?')
    const unlistHeader = db.prepare('DELETE FROM index_packs WHERE pack = ? AND file <> ? AND file IN (SELECT file FROM index_files WHERE length(name) = 0)')
    const revive = db.prepare('UPDATE packs SET gone = 0, to_delete = (SELECT min(i.to_delete) FROM index_packs i WHERE i.pack = packs.pack) WHERE pack = ?')
    const names = Buffer.from(index.packs.buffer, index.packs.byteOffset, index.packs.length)
    const packs = new Float64Array(index.toDelete.length)
    for (let i = 0; i < packs.length; i++) {
      const packName = names.subarray(32 * i, 32 * i + 32)
      const found = find.get(packName)
      if (found && !isPack(found[0], packName, found[1])) throw new DamagedIndexError('checksum of a pack')
      const pack = found ? found[0] : next++
      packs[i] = pack
      if (!found) {
        insert.run(pack, packName, packChecksum(pack, packName))
        count(counts, 'packs', 1)
      }
      if (!listed.get(file, pack)) count(counts, 'index_packs', 1)
      list.run(file, pack, index.toDelete[i])
      if (!isHeader) count(counts, 'index_packs', -unlistHeader.run(pack, file).changes)
      revive.run(pack)
    }
    db.prepare(`UPDATE meta SET value = ? WHERE name = 'nextPack'`).run(next)
    return { file, packs }
  }

  #stillThere(file: number): boolean {
    return this.#db.prepare('SELECT 1 FROM index_files WHERE file = ?').get(file) !== undefined
  }

  /** @returns how many were new */
  #addBlobs(table: BlobTable, records: Uint8Array, packs: Float64Array): number {
    const { one, many } = this.#inserts[table]
    const view = new DataView(records.buffer, records.byteOffset, records.byteLength)
    let values: BlobValue[] = []
    let added = 0
    for (let at = 0; at < records.length; at += INDEX_RECORD_LENGTH) {
      const id = records.subarray(at, at + 32)
      const pack = packs[view.getUint32(at + 32, true)]
      const length = view.getUint32(at + 40, true)
      const plainLength = view.getUint32(at + 44, true)
      const offset = view.getFloat64(at + 48, true)
      values.push(id, pack, offset, length, plainLength, locationChecksum(id, pack, offset, length, plainLength))
      if (values.length === 6 * ROWS_PER_INSERT) {
        added += many.run(...values).changes
        values = []
      }
    }
    for (let i = 0; i < values.length; i += 6) added += one.run(...values.slice(i, i + 6)).changes
    return added
  }

  #finish(file: number, packs: Float64Array): void {
    const recount = this.#db.prepare(`
      UPDATE packs SET missing = (SELECT count(*) FROM tree_blobs t WHERE t.pack = packs.pack AND NOT EXISTS (SELECT 1 FROM tree_rows r WHERE r.id = t.id))
      WHERE pack = ? AND EXISTS (SELECT 1 FROM tree_blobs t WHERE t.pack = packs.pack)`)
    for (const pack of new Set(packs)) recount.run(pack)
    this.#db.prepare('UPDATE index_files SET complete = 1 WHERE file = ?').run(file)
  }
}

function insertsInto(db: Database.Database, table: BlobTable): { one: Insert, many: Insert } {
  const insert = (rows: number) => db.prepare<BlobValue[]>(
    `INSERT OR IGNORE INTO ${table} (id, pack, offset, length, plain_length, checksum) VALUES ${Array(rows).fill('(?, ?, ?, ?, ?, ?)').join(', ')}`)
  return { one: insert(1), many: insert(ROWS_PER_INSERT) }
}

/** One pack, its blobs in the order in which an index file has them: trees first, then by id. */
function recordsOfHeader(name: Uint8Array, ids: Uint8Array, fields: Float64Array): IndexRecords {
  const idOf = (i: number) => ids.subarray(32 * i, 32 * i + 32)
  const order = Array.from({ length: ids.length / 32 }, (_, i) => i).sort((a, b) => fields[4 * b] - fields[4 * a] || Buffer.compare(idOf(a), idOf(b)))
  const blobs = Buffer.alloc(order.length * INDEX_RECORD_LENGTH)
  let treeCount = 0
  order.forEach((i, place) => {
    const at = place * INDEX_RECORD_LENGTH
    const [isTree, offset, length, plainLength] = fields.subarray(4 * i)
    treeCount += isTree
    blobs.set(idOf(i), at)
    blobs.writeUInt32LE(isTree === 1 ? IndexBlobType.tree : IndexBlobType.data, at + 36)
    blobs.writeUInt32LE(length, at + 40)
    blobs.writeUInt32LE(plainLength, at + 44)
    blobs.writeDoubleLE(offset, at + 48)
  })
  return { packs: name, toDelete: new Uint8Array(1), blobs, treeCount }
}

/**
 * Records in pieces for one transaction each, as they come: trees first, for they are waited for, and by id, so that the index is written from one
 * end to the other and not at random.
 */
function* pieces({ blobs, treeCount }: IndexRecords): Generator<{ table: BlobTable, records: Uint8Array }> {
  const trees = treeCount * INDEX_RECORD_LENGTH
  for (const [table, all] of [['tree_blobs', blobs.subarray(0, trees)], ['data_blobs', blobs.subarray(trees)]] as const) {
    const piece = TRANSACTION_BLOBS * INDEX_RECORD_LENGTH
    for (let at = 0; at < all.length; at += piece) yield { table, records: all.subarray(at, at + piece) }
  }
}
