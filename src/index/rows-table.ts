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
  readonly #addToMissing: Database.Statement<[{ id: Uint8Array, change: number }]>
  readonly #addFlags: Database.Statement<[{ flags: number }]>

  constructor(db: Database.Database, transactions: Transactions) {
    this.#transactions = transactions
    this.#insert = db.prepare('INSERT OR IGNORE INTO tree_rows (id, checksum, rows) VALUES (?, ?, ?)')
    this.#delete = db.prepare('DELETE FROM tree_rows WHERE id = ?')
    // A tree may lie in several packs, and twice in one.
    this.#addToMissing = db.prepare(`
      UPDATE packs SET missing = missing + @change * (SELECT count(*) FROM tree_blobs t WHERE t.id = @id AND t.pack = packs.pack)
      WHERE pack IN (SELECT pack FROM tree_blobs WHERE id = @id)`)
    this.#addFlags = db.prepare(`UPDATE meta SET value = value | @flags WHERE name = 'flags' AND value <> value | @flags`)
  }

  put(ids: Uint8Array, lengths: Float64Array, rows: Uint8Array): void {
    const view = new DataView(rows.buffer, rows.byteOffset, rows.byteLength)
    for (let i = 0, at = 0; i < lengths.length;) {
      this.#transactions.write(() => {
        let flags = 0
        for (const start = at; i < lengths.length && at - start < TRANSACTION_BYTES; at += lengths[i++]) {
          const id = ids.subarray(32 * i, 32 * i + 32)
          const one = rows.subarray(at, at + lengths[i])
          if (this.#insert.run(id, rowsChecksum(id, one), one).changes === 1) this.#addToMissing.run({ id, change: -1 })
          flags |= view.getUint32(at + FLAGS_AT, true)
        }
        this.#addFlags.run({ flags: storedFlags(flags) })
      })
    }
  }

  delete(ids: Uint8Array): void {
    this.#transactions.write(() => {
      for (let at = 0; at < ids.length; at += 32) {
        const id = ids.subarray(at, at + 32)
        if (this.#delete.run(id).changes === 1) this.#addToMissing.run({ id, change: 1 })
      }
    })
  }
}
