import type Database from 'better-sqlite3'
import { rowsChecksum } from './checksum.js'
import { TRANSACTION_BYTES } from './limits.js'
import { storedFlags } from './schema.js'
import type { Transactions } from './transactions.js'

/** Where rows have their flags: format/tree-rows.ts, which loads the addon; a thread that only writes does without. */
const FLAGS_AT = 24

/** Rows of trees, and with them packs.missing. */
export class RowsTable {
  readonly #transactions: Transactions
  readonly #insert: Database.Statement<[Uint8Array, number, Uint8Array]>
  readonly #delete: Database.Statement<[Uint8Array]>
  readonly #packsOf: Database.Statement<[Uint8Array], number>
  readonly #addToMissing: Database.Statement<[number, number]>
  readonly #addFlags: Database.Statement<[{ flags: number }]>

  constructor(db: Database.Database, transactions: Transactions) {
    this.#transactions = transactions
    this.#insert = db.prepare('INSERT OR IGNORE INTO tree_rows (id, checksum, rows) VALUES (?, ?, ?)')
    this.#delete = db.prepare('DELETE FROM tree_rows WHERE id = ?')
    this.#packsOf = db.prepare<[Uint8Array], number>('SELECT pack FROM tree_blobs WHERE id = ?').pluck()
    this.#addToMissing = db.prepare('UPDATE packs SET missing = missing + ? WHERE pack = ?')
    this.#addFlags = db.prepare(`UPDATE meta SET value = value | @flags WHERE name = 'flags' AND value <> value | @flags`)
  }

  put(ids: Uint8Array, lengths: Float64Array, rows: Uint8Array): void {
    const view = new DataView(rows.buffer, rows.byteOffset, rows.byteLength)
    for (let i = 0, at = 0; i < lengths.length;) {
      this.#transactions.write(() => {
        let flags = 0
        const stored: Uint8Array[] = []
        for (const start = at; i < lengths.length && at - start < TRANSACTION_BYTES; at += lengths[i++]) {
          const id = ids.subarray(32 * i, 32 * i + 32)
          const one = rows.subarray(at, at + lengths[i])
          if (this.#insert.run(id, rowsChecksum(id, one), one).changes === 1) stored.push(id)
          flags |= view.getUint32(at + FLAGS_AT, true)
        }
        this.#changeMissing(stored, -1)
        this.#addFlags.run({ flags: storedFlags(flags) })
      })
    }
  }

  delete(ids: Uint8Array): void {
    this.#transactions.write(() => {
      const deleted: Uint8Array[] = []
      for (let at = 0; at < ids.length; at += 32) {
        const id = ids.subarray(at, at + 32)
        if (this.#delete.run(id).changes === 1) deleted.push(id)
      }
      this.#changeMissing(deleted, 1)
    })
  }

  /** A tree may lie in several packs, and twice in one. Summed up first: a pack holds thousands. */
  #changeMissing(ids: readonly Uint8Array[], change: 1 | -1): void {
    const changes = new Map<number, number>()
    for (const id of ids) for (const pack of this.#packsOf.all(id)) changes.set(pack, (changes.get(pack) ?? 0) + change)
    for (const [pack, sum] of changes) this.#addToMissing.run(sum, pack)
  }
}
