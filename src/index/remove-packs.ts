import type Database from 'better-sqlite3'
import { ABANDONED_SECONDS, SLICES } from './limits.js'
import { count } from './transactions.js'
import type { Transactions } from './transactions.js'

/**
 * Removes packs that are listed no more: they are marked (packs.gone) with the removal of the index file, and their blobs, and the rows of trees
 * which lie nowhere else, follow in pieces. What a crash leaves behind goes with the next removal.
 */
export class RemovePacks {
  readonly #db: Database.Database
  readonly #transactions: Transactions

  constructor(db: Database.Database, transactions: Transactions) {
    this.#db = db
    this.#transactions = transactions
    db.exec('CREATE TEMP TABLE leaving (pack INTEGER PRIMARY KEY)')
  }

  ofIndexFiles(names: Uint8Array): void {
    const db = this.#db
    this.#transactions.write(counts => {
      const find = db.prepare<[Uint8Array], number>('SELECT file FROM index_files WHERE name = ?').pluck()
      const files = db.prepare<[number], number>('SELECT file FROM index_files WHERE complete = 0 AND started < ?').pluck()
        .all(Math.floor(Date.now() / 1000) - ABANDONED_SECONDS)
      for (let at = 0; at < names.length; at += 32) {
        const file = find.get(names.subarray(at, at + 32))
        if (file !== undefined) files.push(file)
      }
      const unlist = db.prepare<[number], number>('DELETE FROM index_packs WHERE file = ? RETURNING pack').pluck()
      const packs = new Set<number>()
      for (const file of files) {
        const listed = unlist.all(file)
        count(counts, 'index_packs', -listed.length)
        for (const pack of listed) packs.add(pack)
        db.prepare('DELETE FROM index_files WHERE file = ?').run(file)
      }
      this.#mark(packs)
    })
    this.#sweep()
  }

  /** Packs known from their header only. */
  ofHeaders(names: Uint8Array): void {
    const db = this.#db
    this.#transactions.write(counts => {
      const unlist = db.prepare<[Uint8Array], number>(`
        DELETE FROM index_packs WHERE pack = (SELECT pack FROM packs WHERE name = ?) AND file IN (SELECT file FROM index_files WHERE length(name) = 0)
        RETURNING pack`).pluck()
      const packs = new Set<number>()
      for (let at = 0; at < names.length; at += 32) {
        const pack = unlist.get(names.subarray(at, at + 32))
        if (pack === undefined) continue
        count(counts, 'index_packs', -1)
        packs.add(pack)
      }
      this.#mark(packs)
    })
    this.#sweep()
  }

  #mark(packs: Set<number>): void {
    const mark = this.#db.prepare(`
      UPDATE packs SET gone = NOT EXISTS (SELECT 1 FROM index_packs i WHERE i.pack = packs.pack),
        to_delete = ifnull((SELECT min(i.to_delete) FROM index_packs i WHERE i.pack = packs.pack), to_delete)
      WHERE pack = ?`)
    for (const pack of packs) mark.run(pack)
  }

  #sweep(): void {
    const db = this.#db
    db.exec('DELETE FROM leaving; INSERT INTO leaving SELECT pack FROM packs WHERE gone = 1')
    if (!db.prepare('SELECT 1 FROM leaving').get()) return
    // Another process may meanwhile have added an index file with one of these packs: then it is gone no more, and its blobs stay.
    const inSlice = 'WHERE id >= ? AND id < ?'
    const ofLeaving = 'pack IN (SELECT pack FROM packs WHERE gone = 1 AND pack IN (SELECT pack FROM leaving))'
    const removeTrees = db.prepare(`DELETE FROM tree_blobs ${inSlice} AND ${ofLeaving}`)
    const removeRows = db.prepare(`DELETE FROM tree_rows ${inSlice} AND NOT EXISTS (SELECT 1 FROM tree_blobs t WHERE t.id = tree_rows.id)`)
    const removeData = db.prepare(`DELETE FROM data_blobs ${inSlice} AND ${ofLeaving}`)
    for (let slice = 0; slice < SLICES; slice++) {
      const bounds = [slice, slice + 1].map(i => i === SLICES ? Buffer.alloc(33, 0xff) : Buffer.of(i * 256 / SLICES))
      this.#transactions.write(counts => {
        count(counts, 'tree_blobs', -removeTrees.run(...bounds).changes)
        count(counts, 'data_blobs', -removeData.run(...bounds).changes)
        removeRows.run(...bounds)
      })
    }
    this.#transactions.write(counts => {
      count(counts, 'packs', -db.prepare('DELETE FROM packs WHERE gone = 1 AND pack IN (SELECT pack FROM leaving)').run().changes)
    })
  }
}
