import type Database from 'better-sqlite3'
import { statSync } from 'node:fs'
import { AddIndexFile } from './add-index-file.js'
import { checkIndex } from './check-index.js'
import { textChecksum } from './checksum.js'
import { close, openDatabase } from './database.js'
import { MovedIndexError } from './failure.js'
import type { Job } from './jobs.js'
import { identity } from './location.js'
import { bootChecksum } from './migrate.js'
import { release } from './release.js'
import { RemovePacks } from './remove-packs.js'
import { RowsTable } from './rows-table.js'
import { PAGE_SIZE } from './schema.js'
import { Transactions } from './transactions.js'

/** The log is written back to the database at this size: pages changed often are then written once. */
const LOG_BYTES = 8 << 20
/** Longer than any transaction of another process takes. */
const BUSY_MS = 10_000

/** The writing side, in the worker thread. Every job may be done twice with the same outcome, and none is one long transaction. */
export class Store {
  readonly #file: string
  readonly #identity: string
  readonly #db: Database.Database
  readonly #transactions: Transactions
  readonly #add: AddIndexFile
  readonly #remove: RemovePacks
  readonly #rows: RowsTable

  /** @param expected identity of the file the readers have open */
  constructor(file: string, expected: string) {
    this.#file = file
    this.#identity = expected
    this.#db = openDatabase(file, { cacheKiB: 4096, busyMs: BUSY_MS, expected }).db
    try {
      this.#db.pragma(`wal_autocheckpoint = ${LOG_BYTES / PAGE_SIZE}`)
      this.#db.pragma(`journal_size_limit = ${2 * LOG_BYTES}`)
      this.#transactions = new Transactions(this.#db)
      this.#rows = new RowsTable(this.#db, this.#transactions)
      this.#remove = new RemovePacks(this.#db, this.#transactions)
      this.#add = new AddIndexFile(this.#db, this.#transactions)
    } catch (error) {
      close(this.#db)
      throw error
    }
  }

  /** What it throws is for classify(). */
  run(job: Job): void {
    // Deleted or replaced: nobody would find what is written here.
    if (job.kind !== 'close' && identity(this.#file) !== this.#identity) throw new MovedIndexError(`${this.#file} has moved`)
    switch (job.kind) {
      case 'addIndexFile': return this.#add.fromIndexFile(job.name, job)
      case 'addPackHeader': return this.#add.fromHeader(job.name, job.ids, job.fields)
      case 'removeIndexFiles': return this.#remove.ofIndexFiles(job.names)
      case 'removePacks': return this.#remove.ofHeaders(job.names)
      case 'putRows':
        this.#rows.put(job.ids, job.lengths, job.rows)
        return release([job.rows])
      case 'deleteRows': return this.#rows.delete(job.ids)
      case 'markPackTried': return this.#markPackTried(job.pack)
      case 'putSnapshots': return this.#putSnapshots(job.added, job.removed)
      case 'putDayNames': return this.#putDayNames(job.view, job.names)
      case 'check': return this.#check()
      case 'close': return this.close()
    }
  }

  /** After a job: cut the log if it has outgrown its limit because checkpoints found readers in it each time. */
  tidy(): void {
    if (statSync(`${this.#file}-wal`).size < 2 * LOG_BYTES) return
    this.#db.pragma('busy_timeout = 200')
    this.#db.pragma('wal_checkpoint(TRUNCATE)')
    this.#db.pragma(`busy_timeout = ${BUSY_MS}`)
  }

  close(): void { close(this.#db) }

  #check(): void {
    checkIndex(this.#db)
    this.#transactions.write(() => this.#db.prepare(`UPDATE meta SET value = ? WHERE name = 'boot'`).run(bootChecksum()))
  }

  #markPackTried(pack: number): void {
    this.#transactions.write(() => {
      this.#db.prepare('UPDATE packs SET tried = ? WHERE pack = ?').run(Math.floor(Date.now() / 1000), pack)
    })
  }

  #putSnapshots(added: [string, string][], removed: string[]): void {
    const put = this.#db.prepare('INSERT OR REPLACE INTO snapshots (name, json, checksum) VALUES (?, ?, ?)')
    const remove = this.#db.prepare('DELETE FROM snapshots WHERE name = ?')
    const removeNames = this.#db.prepare('DELETE FROM day_names WHERE snapshot = ?')
    this.#transactions.write(() => {
      for (const [name, json] of added) put.run(name, json, textChecksum(name, json))
      for (const name of removed) {
        remove.run(name)
        removeNames.run(name)
      }
    })
  }

  #putDayNames(view: string, names: [string, string][]): void {
    const put = this.#db.prepare('INSERT OR REPLACE INTO day_names (view, snapshot, name, checksum) VALUES (?, ?, ?, ?)')
    this.#transactions.write(() => {
      for (const [snapshot, name] of names) put.run(view, snapshot, name, textChecksum(view, snapshot, name))
    })
  }
}

