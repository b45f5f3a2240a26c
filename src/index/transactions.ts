import type Database from 'better-sqlite3'
import { DamagedIndexError } from './failure.js'
import type { Counts } from './jobs.js'
import type { Counted } from './schema.js'

/** Write transactions, which keep the counts in meta. */
export class Transactions {
  readonly #db: Database.Database
  readonly #addToCount: Database.Statement<[number, string]>

  constructor(db: Database.Database) {
    this.#db = db
    this.#addToCount = db.prepare(`UPDATE meta SET value = value + ? WHERE name = 'count:' || ?`)
  }

  /** @param action is given what to report changes of counted tables to */
  write<T>(action: (counts: Counts) => T): T {
    const counts: Counts = {}
    this.#db.exec('BEGIN IMMEDIATE')
    try {
      const result = action(counts)
      for (const [table, change] of Object.entries(counts)) {
        if (change !== 0 && this.#addToCount.run(change, table).changes !== 1) throw new DamagedIndexError(`no count of ${table}`)
      }
      this.#db.exec('COMMIT')
      return result
    } catch (error) {
      // SQLite has rolled back by itself after some errors (disk full, I/O).
      if (this.#db.inTransaction) {
        try { this.#db.exec('ROLLBACK') } catch { /* the first error says more */ }
      }
      throw error
    }
  }
}

export function count(counts: Counts, table: Counted, change: number): void {
  counts[table] = (counts[table] ?? 0) + change
}
