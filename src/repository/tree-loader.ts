import { setMaxListeners } from 'node:events'
import { LRUCache } from 'lru-cache'
import type { ReadBackend } from '../backend/backend.js'
import { CorruptError, NotFoundError } from '../errors.js'
import type { BlobId, TreeSource } from '../fs/sources.js'
import type { BlobLocation, LocalIndex, PackedBlob } from '../index/index.js'
import type { Native } from '../native.js'
import { abortedError } from '../util/abort.js'
import { Budget } from '../util/concurrency.js'
import { DeadBuffers } from '../util/dead-buffers.js'
import { idKey, keyHex } from '../util/id-key.js'
import type { Logger } from '../util/log.js'
import { SharedRun } from '../util/single-flight.js'
import { concernsCopy, decodeEntries, decodeFailure, isSound, readPack } from './pack-reader.js'
import { RowsStore } from './rows-store.js'
import { TreePack } from './tree-pack.js'

export interface TreeLoaderOptions {
  readonly backend: ReadBackend
  /** 64 bytes, as native.decodeTrees takes them */
  readonly keys: Uint8Array
  readonly index: Pick<LocalIndex, 'locate' | 'packName' | 'treesOfPack' | 'packsWithoutRows' | 'missingTrees' | 'markPackTried' | 'rows' | 'putRows' | 'flags'>
  readonly native: Pick<Native, 'decodeTrees'>
  /** list index files again; true if something new was learnt */
  readonly refresh: () => Promise<boolean>
  /** While the index is being filled: resolves when it may know this blob, or is full. */
  readonly located?: (id: BlobId) => Promise<void>
  /** Is something under way that the background should not compete with? */
  readonly busy?: () => boolean
  readonly log: Logger
  /** closes the loader */
  readonly signal?: AbortSignal
  /** bytes of rows kept in memory */
  readonly memoryBytes?: number
  /** bytes of rows that may wait for the index's worker */
  readonly queueBytes?: number
  /** bytes of a pack read and decoded at once */
  readonly sliceBytes?: number
}

/** Bookkeeping per tree in memory. */
const ROWS_OVERHEAD = 256
/** Unfinished packs whose list of trees is kept; a list is a few MB at most. */
const MAX_PACKS = 256
/** Bytes of ranges, JSON and rows being decoded at once. */
const DECODE_BYTES = 16 << 20
/** Bytes of rows and ranges after which dead ones are collected. */
const COLLECT_BYTES = 4 << 20
const FLAGS_OFFSET = 24
/**
 * The background waits while trees are being asked for, at hand or not: somebody walks through the repository, and needs the processors. A slice of
 * decoding takes 10 ms, and as much again to store; a walk asks every 100 us.
 */
const QUIET_MS = 50
/** ... but not for ever: a slice each second all the same. */
const PATIENCE_MS = 1000
/** Slices of the background under way at once: as many as keep two cores busy when there is a hurry, else one. */
const HURRIED_SLICES = 3

/**
 * TreeSource over a repository's packs and its local index.
 *
 * Packs of trees are cut into slices of some sixty trees. The slice that holds a wanted tree is decoded as a whole, as its neighbours are likely to
 * be wanted next, and with each demand of the same pack more slices behind it, on all cores; while nobody asks for trees, the rest of these packs
 * follows in the background, then, after fillInBackground(), all other packs whose rows the index lacks.
 */
export class TreeLoader implements TreeSource {
  readonly #options: TreeLoaderOptions
  readonly #sliceBytes: number
  readonly #memory: LRUCache<string, Buffer>
  /** the last tree too large for #memory */
  #large: { key: string, rows: Buffer } | null = null
  readonly #store: RowsStore
  readonly #refresh: SharedRun<boolean>
  readonly #decoding = new Budget(DECODE_BYTES)
  readonly #deadBuffers = new DeadBuffers(COLLECT_BYTES)
  readonly #abort = new AbortController()
  readonly #onAbort = () => { void this.close() }

  readonly #loading = new Map<string, Promise<Buffer>>()
  /** unfinished packs by number, the last demanded one last */
  readonly #packs = new Map<number, TreePack>()
  /** finished packs which packsWithoutRows may still list: not stored yet, or some trees cannot be had */
  readonly #finished = new Map<number, 'storing' | 'again' | 'failed'>()
  #hurried = false
  /** when a tree that was not in memory was last asked for; performance.now() */
  #lastAsked = 0
  #filling: Promise<void> | null = null
  /** there may be something to do since the filling last looked */
  #more = false
  #fillAll = false
  #paused = false

  #flags = 0
  #complete = false
  readonly #flagsListeners = new Set<(flags: number) => void>()
  readonly #completeListeners = new Set<() => void>()
  #closed: Promise<void> | null = null

  constructor(options: TreeLoaderOptions) {
    this.#options = options
    this.#sliceBytes = options.sliceBytes ?? 64 << 10
    this.#memory = new LRUCache({ maxSize: options.memoryBytes ?? 8 << 20, sizeCalculation: rows => rows.length + ROWS_OVERHEAD })
    this.#store = new RowsStore(options.index, options.log, options.queueBytes ?? 4 << 20)
    this.#refresh = new SharedRun(options.refresh)
    // each read under way listens
    setMaxListeners(0, this.#abort.signal)
    options.signal?.addEventListener('abort', this.#onAbort, { once: true })
    if (options.signal?.aborted) void this.close()
  }

  /** Only after fillInBackground(): before the first index files are added, nothing is missing either. */
  get complete(): boolean { return this.#complete }
  get flags(): number { return this.#flags | this.#options.index.flags }

  peek(id: BlobId): Buffer | null {
    const key = idKey(id)
    const known = this.#memory.get(key) ?? (this.#large?.key === key ? this.#large.rows : undefined) ?? this.#store.get(key)
    if (known !== undefined) return known
    this.#lastAsked = performance.now()
    const rows = this.#options.index.rows(id)
    if (rows === null) return null
    this.#deadBuffers.made(rows.length)
    this.#remember(key, rows)
    return rows
  }

  load(id: BlobId): Promise<Buffer> {
    const key = idKey(id)
    const loading = this.#loading.get(key)
    if (loading !== undefined) return loading
    if (this.#closed !== null) return Promise.reject(abortedError())
    const rows = this.peek(id)
    if (rows !== null) return Promise.resolve(rows)
    const load = this.#load(key, Buffer.from(id)).finally(() => this.#loading.delete(key))
    this.#loading.set(key, load)
    return load
  }

  /**
   * Put the rows of all trees of the repository into the index, behind demand. Resolves when there is nothing left to do for now, or when closed.
   * To be called when the index files have been added.
   */
  fillInBackground(): Promise<void> {
    this.#fillAll = true
    this.#paused = false
    return this.#fill()
  }

  /** Index files were added or removed, or the index was reset: what was known of packs may be wrong, and there may be more to fill. */
  indexChanged(): void {
    this.#complete = false
    this.#packs.clear()
    this.#finished.clear()
    this.#paused = false
    if (this.#fillAll) void this.#fill()
  }

  hurry(): void { this.#hurried = true }

  /** Called when `flags` has grown. @returns a function that ends the calls */
  onFlags(listener: (flags: number) => void): () => void {
    this.#flagsListeners.add(listener)
    return () => { this.#flagsListeners.delete(listener) }
  }

  /** Called when `complete` becomes true. @returns a function that ends the calls */
  onComplete(listener: () => void): () => void {
    this.#completeListeners.add(listener)
    return () => { this.#completeListeners.delete(listener) }
  }

  /** Everything pending rejects with ERR_ABORTED; rows decoded already are still given to the index. Idempotent. */
  close(): Promise<void> { return this.#closed ??= this.#close() }

  async #close(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#abort.abort()
    this.#packs.clear()
    this.#memory.clear()
    this.#large = null
    await Promise.allSettled(this.#loading.values())
    await this.#filling
    await this.#store.drained()
  }

  async #load(key: string, id: Buffer): Promise<Buffer> {
    try {
      // a copy: rows of one decoding share their memory
      const rows = Buffer.from(await this.#loadAnyCopy(key, id))
      this.#remember(key, rows)
      this.#paused = false
      return rows
    } finally {
      if (this.#packs.size > 0) void this.#fill()
    }
  }

  async #loadAnyCopy(key: string, id: Buffer): Promise<Buffer> {
    const { index, log } = this.#options
    let failure: Error | null = null
    await this.#options.located?.(id)
    this.#throwIfClosed()
    for (let round = 0; ; round++) {
      for (const location of index.locate(id).filter(isSound)) {
        const rows = await this.#loadCopy(key, id, location)
        if (!(rows instanceof Error)) {
          if (failure !== null) log.warn('a copy of a tree could not be had, another was taken', { tree: keyHex(key), cause: failure.message })
          return rows
        }
        if (!concernsCopy(rows)) throw rows
        // Wrong bytes say more about the tree than a pack that is gone.
        if (!(failure instanceof CorruptError)) failure = rows
      }
      if (round > 0) throw treeError(key, failure)
      await this.#refreshFor(key, failure)
      const rows = this.peek(id)
      if (rows !== null) return rows
    }
  }

  async #refreshFor(key: string, failure: Error | null): Promise<void> {
    let news
    try {
      news = await this.#refresh.run()
    } catch (error) {
      this.#throwIfClosed()
      throw failure === null ? error : treeError(key, failure)
    }
    this.#throwIfClosed()
    if (news) this.indexChanged()
  }

  #throwIfClosed(): void {
    if (this.#closed !== null) throw abortedError()
  }

  /** Never rejects but when closed. */
  async #loadCopy(key: string, id: Buffer, location: BlobLocation): Promise<Buffer | Error> {
    const pack = this.#pack(location.pack)
    const position = pack.find(id, location.offset)
    const slice = pack.sliceAt(position)
    if (position >= 0 && !pack.isDone(slice)) {
      const loading = this.#loadSlice(pack, slice, true)
      for (const next of pack.slicesBehind(slice)) void this.#loadSlice(pack, next, true)
      const rows = await loading
      this.#throwIfClosed()
      return rows[position - pack.start(slice)]
    }
    // Decoded before, but neither in memory nor in the index any more; or the list of the pack's trees does not know it.
    const [rows] = await this.#decode(location.pack, [{ ...location, id }], true)
    this.#throwIfClosed()
    if (rows instanceof Buffer) this.#keep(key, rows)
    return rows
  }

  #pack(number: number): TreePack {
    let pack = this.#packs.get(number)
    if (pack === undefined) {
      pack = new TreePack(number, this.#options.index.treesOfPack(number).filter(isSound), this.#sliceBytes)
      for (const oldest of this.#packs.keys()) {
        if (this.#packs.size < MAX_PACKS) break
        this.#packs.delete(oldest)
      }
    }
    this.#packs.delete(number)
    if (!pack.finished) this.#packs.set(number, pack)
    return pack
  }

  /** Rows of a slice's trees, or why not. Calls for a slice under way share it. Never rejects. */
  #loadSlice(pack: TreePack, slice: number, demanded: boolean): Promise<(Buffer | Error)[]> {
    return pack.run(slice, async trees => {
      const all = await this.#decode(pack.number, trees, demanded)
      for (let i = 0; i < trees.length; i++) {
        const rows = all[i]
        if (!(rows instanceof Buffer)) continue
        const key = idKey(trees[i].id)
        this.#keep(key, rows)
        // who goes through a directory wants its neighbours next: from the store, then from the index, unless that takes nothing
        if (demanded && this.#store.broken) this.#remember(key, Buffer.from(rows))
      }
      return all
    }, () => this.#packFinished(pack))
  }

  #packFinished(pack: TreePack): void {
    if (this.#packs.get(pack.number) === pack) this.#packs.delete(pack.number)
    if (this.#closed !== null) return
    const failed = pack.failed || this.#finished.get(pack.number) === 'again'
    this.#finished.set(pack.number, failed ? 'failed' : 'storing')
    if (!failed) return
    this.#options.index.markPackTried(pack.number).catch(error => this.#options.log.debug('a pack could not be marked', { error }))
  }

  /** Read and decode trees of one pack that lie close together. Who waits for a tree does not wait for the index's worker to keep up. Never rejects. */
  async #decode(pack: number, trees: readonly PackedBlob[], demanded: boolean): Promise<(Buffer | Error)[]> {
    if (demanded) return this.#decodeParts(pack, trees)
    let bytes = 0
    for (const { length, plainLength } of trees) bytes += length + 2 * Math.max(plainLength, length)
    await this.#store.room()
    const release = await this.#decoding.acquire(bytes)
    try {
      return await this.#decodeParts(pack, trees)
    } finally {
      release()
    }
  }

  async #decodeParts(pack: number, trees: readonly PackedBlob[]): Promise<(Buffer | Error)[]> {
    const { backend, index, native, keys } = this.#options
    try {
      const start = trees[0].offset
      let end = start
      for (const { offset, length } of trees) end = Math.max(end, offset + length)
      const bytes = await readPack(backend, index.packName(pack), start, end - start, this.#abort.signal)
      const ids = Buffer.concat(trees.map(tree => tree.id))
      const results = await native.decodeTrees(keys, bytes, decodeEntries(trees, start), ids)
      return results.map((rows, i) => typeof rows === 'number' ? decodeFailure(`tree ${trees[i].id.toString('hex')}`, trees[i], index, rows) : rows)
    } catch (error) {
      // A range that ends early or has a bad sector in it: halves, so that all but the trees concerned are still had, in few reads.
      if (!(error instanceof CorruptError) || trees.length === 1) return trees.map(() => error as Error)
      const middle = trees.length >> 1
      return [...await this.#decodeParts(pack, trees.slice(0, middle)), ...await this.#decodeParts(pack, trees.slice(middle))]
    }
  }

  #keep(key: string, rows: Buffer): void {
    this.#deadBuffers.made(rows.length)
    this.#store.put(key, rows)
    const before = this.#flags
    this.#flags |= rows.readUInt32LE(FLAGS_OFFSET)
    if (this.#flags !== before && (this.#flags & ~(before | this.#options.index.flags)) !== 0) {
      this.#tell(this.#flagsListeners, this.flags)
    }
  }

  #remember(key: string, rows: Buffer): void {
    if (this.#closed !== null) return
    if (rows.length + ROWS_OVERHEAD > this.#memory.maxSize) this.#large = { key, rows }
    else this.#memory.set(key, rows)
  }

  #fill(): Promise<void> {
    this.#more = true
    return this.#filling ??= this.#fillWhileMore()
  }

  /** Never rejects. */
  async #fillWhileMore(): Promise<void> {
    // Never in the turn of the caller.
    await new Promise(setImmediate)
    while (this.#more) {
      this.#more = false
      try {
        await this.#fillSlices()
        await this.#checkComplete()
      } catch (error) {
        this.#options.log.error('filling the index failed', { error })
      }
    }
    this.#filling = null
  }

  async #fillSlices(): Promise<void> {
    while (this.#closed === null && !this.#paused && !this.#store.broken) {
      await this.#quiet()
      const pack = await this.#nextPack()
      if (pack === null || this.#closed !== null) break
      const slice = pack.nextSlice()
      if (slice < 0) continue
      const behind = this.#hurried ? pack.following(slice, HURRIED_SLICES - 1) : []
      const loaded = await Promise.all([slice, ...behind].map(next => this.#loadSlice(pack, next, false)))
      // The repository is out of reach: later, when somebody who asked got an answer.
      if (loaded.some(rows => rows.some(rows => rows instanceof Error && !concernsCopy(rows)))) this.#paused = true
    }
  }

  /** Resolves when nobody has asked for a while, or patience ends. */
  async #quiet(): Promise<void> {
    const end = performance.now() + PATIENCE_MS
    while (!this.#hurried) {
      const now = performance.now()
      if (this.#options.busy?.()) this.#lastAsked = now
      const wait = Math.min(this.#lastAsked + QUIET_MS, end) - now
      if (wait <= 0 || this.#closed !== null) return
      await new Promise(resolve => setTimeout(resolve, wait))
    }
  }

  /** The pack to go on with: of those demanded the last, then what the index lacks. */
  async #nextPack(): Promise<TreePack | null> {
    let last: TreePack | null = null
    for (const pack of this.#packs.values()) last = pack
    if (last !== null || !this.#fillAll) return last
    for (;;) {
      const listed = this.#options.index.packsWithoutRows(this.#finished.size + 1).find(number => (this.#finished.get(number) ?? 'again') === 'again')
      if (listed !== undefined) {
        const pack = this.#pack(listed)
        if (!pack.finished) return pack
        // Listed, but without a tree that could be read.
        this.#packFinished(pack)
        this.#finished.set(listed, 'failed')
        continue
      }
      if (![...this.#finished.values()].includes('storing')) return null
      await this.#store.drained()
      if (this.#closed !== null || this.#store.broken) return null
      this.#forgetStored()
    }
  }

  // Stored packs are not listed again, unless the index lost rows: then they are decoded once more, but not for ever.
  #forgetStored(): void {
    const listed = new Set(this.#options.index.packsWithoutRows(this.#finished.size + 1))
    for (const [pack, state] of this.#finished) {
      if (state !== 'storing') continue
      if (listed.has(pack)) this.#finished.set(pack, 'again')
      else this.#finished.delete(pack)
    }
  }

  async #checkComplete(): Promise<void> {
    if (!this.#fillAll || this.#complete || this.#paused) return
    await this.#store.drained()
    if (this.#closed !== null || this.#store.broken || this.#options.index.missingTrees() > 0) return
    this.#complete = true
    this.#hurried = false
    this.#tell(this.#completeListeners, undefined)
  }

  #tell<T>(listeners: Iterable<(value: T) => void>, value: T): void {
    for (const listener of listeners) {
      try {
        listener(value)
      } catch (error) {
        this.#options.log.error('a listener of the tree loader threw', { error })
      }
    }
  }
}

function treeError(key: string, failure: Error | null): Error {
  const tree = `tree ${keyHex(key)}`
  if (failure === null || failure instanceof NotFoundError) return new NotFoundError(tree, failure === null ? undefined : { cause: failure })
  return new CorruptError(tree, failure instanceof CorruptError && failure.file === tree ? failure.reason : failure.message, { cause: failure })
}
