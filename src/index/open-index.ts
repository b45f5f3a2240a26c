import { DaybookError } from '../errors.js'
import type { Logger } from '../util/log.js'
import { isIdName } from '../util/hex.js'
import { decodeIndexFile } from '../format/index-file.js'
import type { IndexFile } from '../format/index-file.js'
import { HEADER_LENGTH } from '../format/tree-rows.js'
import { classify, DamagedIndexError } from './failure.js'
import type { Failure } from './failure.js'
import type { BlobLocation, LocalIndex, PackedBlob } from './index.js'
import type { IndexRecords, Job } from './jobs.js'
import { MAX_ROWS_BYTES } from './limits.js'
import { birth, identity, localPlace, noPlace, persistentPlace, prepare, removeLeftovers, removePlace, setAside, temporaryPlaces } from './location.js'
import type { Place } from './location.js'
import { Reader } from './reader.js'
import { release } from './release.js'
import { UnwrittenBlobs } from './unwritten.js'
import { Writer } from './writer.js'

export { defaultCacheDir } from './location.js'

export interface OpenIndexOptions {
  cacheDir: string
  /** 64 hex digits, from the repository's config */
  repositoryId: string
  log: Pick<Logger, 'warn'>
}

/** Damage beyond this often in one run is the disk's: the index is kept elsewhere. */
const MAX_RESETS_IN_PLACE = 3
/** More trees whose rows are bad, and the rest is not trusted either. */
const MAX_BAD_ROWS = 16
/** After a boot, until the mount has had the time to start. */
const BOOT_CHECK_MS = 60_000

/**
 * Open or create the index of a repository. The state of the cache directory is never an error: what is damaged is built again, and where
 * nothing can be kept, a temporary folder serves (`persistent` is false then). @throws DaybookError ERR_INDEX if there is no such folder either
 */
export async function openIndex(options: OpenIndexOptions): Promise<LocalIndex> {
  return new SqliteIndex(options)
}

class SqliteIndex implements LocalIndex {
  readonly #log: OpenIndexOptions['log']
  readonly #callbacks = new Set<(reason: string) => void>()
  readonly #writer: Writer
  readonly #bootCheck: NodeJS.Timeout
  readonly #removeAtExit = () => removePlace(this.#place)
  /** ids (hex) of trees whose bad rows are about to be deleted, and how many there were since the last restart */
  readonly #badRows = new Set<string>()
  #badRowsCount = 0
  readonly #unwritten = new UnwrittenBlobs()
  readonly #home: Place
  #temporary = temporaryPlaces()
  #place: Place
  /** null if no place could be had */
  #reader: Reader | null = null
  #resets = 0
  #damages = 0
  /** a restart is due: nothing is read meanwhile */
  #restarting = false
  #closed: Promise<void> | null = null

  constructor({ cacheDir, repositoryId, log }: OpenIndexOptions) {
    this.#log = log
    this.#home = localPlace(persistentPlace(cacheDir, repositoryId))
    this.#place = this.#home
    removeLeftovers(this.#home)
    this.#writer = new Writer({
      written: () => this.#reader?.endTurn(),
      failed: (failure, error) => this.#restartSoon(failure, error),
    })
    this.#open(this.#home)
    this.#bootCheck = setTimeout(() => {
      if (!this.#read(reader => reader.checkedSinceBoot(), true)) this.check().catch(() => {})
    }, BOOT_CHECK_MS).unref()
  }

  get path(): string { return this.#place.file }
  get persistent(): boolean { return this.#place.persistent }
  get flags(): number { return this.#read(reader => reader.flags(), 0) }

  locate(id: Uint8Array): BlobLocation[] {
    if (id.length !== 32) return []
    const unwritten = this.#unwritten.locate(id)
    return unwritten.length > 0 ? unwritten : this.#read(reader => reader.locate(id), [])
  }

  holds(type: 'data' | 'tree', id: Uint8Array): boolean { return this.#read(reader => reader.holds(type, id), false) }
  packName(pack: number): string { return this.#unwritten.packName(pack) ?? this.#read(reader => reader.packName(pack), '') }
  treesEnd(pack: number): number { return this.#unwritten.treesEnd(pack) ?? this.#read(reader => reader.treesEnd(pack), 0) }
  hasPack(name: string): boolean { return this.#read(reader => reader.hasPack(name), false) }
  treesWithoutRows(pack: number, offset: number, limit: number): PackedBlob[] {
    return this.#read(reader => reader.treesWithoutRows(pack, offset, limit), [])
  }
  packsWithoutRows(limit: number): number[] { return this.#read(reader => reader.packsWithoutRows(limit), []) }
  missingTrees(which?: 'tried'): number { return this.#read(reader => reader.missingTrees(which), 0) }
  snapshots(): Map<string, string> { return this.#read(reader => reader.snapshots(), new Map()) }
  dayNames(view: string): Map<string, string> { return this.#read(reader => reader.dayNames(view), new Map()) }

  rows(tree: Uint8Array): Buffer | null {
    const stored = tree.length === 32 ? this.#read(reader => reader.rows(tree), null) : null
    if (stored === null) return null
    if (stored !== 'bad') return stored.rows
    this.#deleteRows(tree)
    return null
  }

  /** Also where it is seen that the files were deleted or replaced: the caller is about to compare this list with the repository's. */
  indexFiles(): Set<string> {
    if (this.#reader && identity(this.#place.file) !== this.#reader.identity) this.#restart('moved', 'its files were deleted or replaced')
    else if (!this.#reader && !this.#closed) this.#restart('moved', 'another try')
    return this.#read(reader => reader.indexFiles(), new Set())
  }

  addIndexFile(name: string, file: IndexFile | Buffer, located?: () => void): Promise<void> {
    // The JSON is not held on to: it is larger than what is decoded, and may wait for long.
    return this.#addDecoded(name, Buffer.isBuffer(file) ? decodeIndexFile(name, file) : Promise.resolve(file), located)
  }

  addPackHeader(packName: string, blobs: { id: Buffer, type: 'data' | 'tree', offset: number, length: number, plainLength: number }[]): Promise<void> {
    return this.#write(() => ({
      kind: 'addPackHeader',
      name: namesBytes([packName]),
      ids: joined(blobs.map(({ id }) => id)),
      fields: Float64Array.from(blobs.flatMap(({ type, offset, length, plainLength }) => [type === 'tree' ? 1 : 0, offset, length, plainLength])),
    }))
  }

  removeIndexFiles(names: string[]): Promise<void> { return this.#write(() => ({ kind: 'removeIndexFiles', names: namesBytes(names) })) }
  removePacks(names: string[]): Promise<void> { return this.#write(() => ({ kind: 'removePacks', names: namesBytes(names) })) }
  markPackTried(pack: number): Promise<void> { return this.#write(() => ({ kind: 'markPackTried', pack })) }

  async putRows(batch: { id: Buffer, rows: Buffer }[]): Promise<void> {
    if (batch.some(({ id, rows }) => id.length !== 32 || rows.length < HEADER_LENGTH)) throw new RangeError('not rows of a tree')
    const kept = batch.filter(({ rows }) => rows.length <= MAX_ROWS_BYTES)
    if (kept.length > 0) await this.#writer.putRows(kept)
  }

  putSnapshots(added: Map<string, string>, removed: string[]): Promise<void> {
    return this.#write(() => ({ kind: 'putSnapshots', added: [...added], removed }))
  }

  putDayNames(view: string, names: Map<string, string>): Promise<void> {
    return this.#write(() => ({ kind: 'putDayNames', view, names: [...names] }))
  }

  async reset(reason: string): Promise<void> {
    if (!this.#closed) this.#restart('damaged', reason)
  }

  onReset(callback: (reason: string) => void): () => void {
    this.#callbacks.add(callback)
    return () => void this.#callbacks.delete(callback)
  }

  async check(): Promise<boolean> {
    const before = this.#resets
    await this.#write(() => ({ kind: 'check' }))
    return this.#resets === before
  }

  close(): Promise<void> {
    return this.#closed ??= (async () => {
      clearTimeout(this.#bootCheck)
      await this.#writer.close()
      this.#reader?.close()
      this.#reader = null
      removePlace(this.#place)
      process.off('exit', this.#removeAtExit)
    })()
  }

  #read<T>(read: (reader: Reader) => T, otherwise: T): T {
    const reader = this.#reader
    if (!reader || this.#restarting) return otherwise
    try {
      return read(reader)
    } catch (error) {
      const failure = classify(error)
      // Arguments are checked before: a statement that fails has met values which cannot be.
      if (failure !== 'busy') this.#restartSoon(failure === 'bug' ? 'damaged' : failure, error as Error)
      return otherwise
    }
  }

  #write(make: () => Job): Promise<void> { return this.#writer.run(make) }

  /** Its turn is that of the call, not that of the end of decoding: one file is decoded while another is written. */
  async #addDecoded(name: string, decoding: Promise<IndexFile>, located = () => {}): Promise<void> {
    let file: IndexFile | undefined
    const ready = decoding.then(decoded => {
      this.#unwritten.add(file = decoded)
      located()
    })
    try {
      await this.#writer.run(() => ({ kind: 'addIndexFile', name: namesBytes([name]), ...recordsOf(file!) }), ready)
    } finally {
      // Where nothing can be written it is still being decoded.
      await ready.catch(() => {})
      if (file) {
        this.#unwritten.remove(file)
        release([file.packs, file.blobs])
      }
    }
  }

  #deleteRows(tree: Uint8Array): void {
    const ids = new Uint8Array(tree)
    const key = Buffer.from(ids).toString('hex')
    if (this.#badRows.has(key)) return
    if (++this.#badRowsCount > MAX_BAD_ROWS) return this.#restartSoon('damaged', new DamagedIndexError('rows of many trees'))
    if (this.#badRowsCount === 1) this.#log.warn('index: damaged rows of a tree, to be made again', { tree: key })
    this.#badRows.add(key)
    this.#write(() => ({ kind: 'deleteRows', ids: new Uint8Array(ids) })).catch(() => {}).finally(() => this.#badRows.delete(key))
  }

  // Not in the turn of the read: that one belongs to somebody's request.
  #restartSoon(failure: Failure, error: Error): void {
    if (this.#closed) return this.#writer.fail(noPlace(error))
    if (this.#restarting) return
    this.#restarting = true
    setImmediate(() => {
      if (this.#closed) this.#writer.fail(noPlace(error))
      else if (this.#restarting) this.#restart(failure, error.message)
    })
  }

  #restart(failure: Failure, reason: string): void {
    const reader = this.#reader
    this.#reader = null
    this.#restarting = false
    this.#writer.suspend()
    this.#resets++
    this.#badRowsCount = 0
    // Without a reader there was no place at all; by now there may be room again.
    let place: Place | null = reader ? this.#place : this.#home
    if (failure === 'unusable' || (failure === 'damaged' && ++this.#damages > MAX_RESETS_IN_PLACE)) place = null
    // While the reader has it open: else its inode number could already be another file's.
    else if (failure === 'damaged' && reader && identity(place.file) === reader.identity) place = this.#setAside(place)
    reader?.close()
    if (place === null) removePlace(this.#place)
    try {
      this.#open(place)
    } catch (error) {
      this.#log.warn('index: lost', { reason, error })
      this.#writer.fail(error as Error)
      this.#temporary = temporaryPlaces()
      return
    }
    this.#log.warn(`index: started anew${this.persistent ? '' : ' in a temporary folder'}`, { reason, path: this.path })
    for (const callback of this.#callbacks) setImmediate(() => { if (!this.#closed) callback(reason) })
  }

  #setAside(place: Place): Place | null {
    try {
      setAside(place, birth(place.file))
      return place
    } catch {
      return null
    }
  }

  /** Open the index in this place, else in temporary ones. */
  #open(first: Place | null): void {
    let lastError: unknown
    for (let place = first ?? this.#nextTemporary(); place; place = this.#nextTemporary()) {
      try {
        const reader = this.#openIn(place)
        this.#reader = reader
        this.#place = place
        this.#writer.use({ file: place.file, identity: reader.identity })
        process.off('exit', this.#removeAtExit)
        if (!place.persistent) process.on('exit', this.#removeAtExit)
        return
      } catch (error) {
        lastError = error
        removePlace(place)
        this.#log.warn('index: cannot be kept here; a temporary folder is used', { path: place.directory, error: (error as Error).message })
      }
    }
    throw noPlace(lastError)
  }

  #nextTemporary(): Place | null {
    const { value, done } = this.#temporary.next()
    return done ? null : value
  }

  #openIn(place: Place): Reader {
    for (let attempt = 1; ; attempt++) {
      let found = ''
      try {
        prepare(place)
        found = birth(place.file)
        return new Reader(place.file)
      } catch (error) {
        const failure = classify(error)
        if (attempt === 5 || (failure !== 'moved' && failure !== 'damaged')) throw error
        if (failure === 'damaged') {
          this.#log.warn('index: damaged, so it is built again', { path: place.file, error: (error as Error).message })
          setAside(place, found || birth(place.file))
        }
      }
    }
  }
}

function namesBytes(names: string[]): Uint8Array {
  if (!names.every(isIdName)) throw new DaybookError('ERR_USAGE', 'index: a name is not 64 hex digits')
  return Uint8Array.from(Buffer.from(names.join(''), 'hex'))
}

/** In buffers of their own, which can be handed over. */
function recordsOf({ packs, toDelete, blobs, treeCount }: IndexFile): IndexRecords {
  return { packs: new Uint8Array(packs), toDelete: new Uint8Array(toDelete), blobs: new Uint8Array(blobs), treeCount }
}

/** In a buffer of its own, which can be handed over. */
function joined(ids: Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(32 * ids.length)
  ids.forEach((id, i) => bytes.set(id, 32 * i))
  return bytes
}
