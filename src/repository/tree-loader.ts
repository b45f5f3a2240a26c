import { LRUCache } from 'lru-cache'
import type { BlobId, TreeSource } from '../fs/sources.js'
import type { LocalIndex, PackedBlob } from '../index/index.js'
import type { Native } from '../native.js'
import { abortedError } from '../util/abort.js'
import { DeadBuffers } from '../util/dead-buffers.js'
import { idKey } from '../util/id-key.js'
import { PackLoader, type PackLoaderOptions } from './pack-loader.js'
import { decodeEntries, isSound, readPack } from './pack-reader.js'
import type { OnItem } from './pack-read.js'
import { RowsStore } from './rows-store.js'
import { TreeFill } from './tree-fill.js'

export interface TreeLoaderOptions extends PackLoaderOptions {
  readonly index: Pick<LocalIndex, 'locate' | 'packName' | 'treesEnd' | 'treesWithoutRows' | 'packsWithoutRows' | 'missingTrees' | 'markPackTried' | 'rows' | 'putRows' | 'flags'>
  readonly native: Pick<Native, 'decodeTrees' | 'treeFlags'>
  /** Is something under way that the background should not compete with? */
  readonly busy?: () => boolean
  /** bytes of rows kept in memory */
  readonly memoryBytes?: number
  /** bytes of rows that may wait for the index's worker */
  readonly queueBytes?: number
  /** bytes of a pack the background reads and decodes at once */
  readonly sliceBytes?: number
}

const BUDGETS = { inFlightBytes: 6 << 20, aheadBytes: 8 << 20 }
const MEMORY_BYTES = 7 << 20
const QUEUE_BYTES = 4 << 20
/** Rows of demand and read-ahead wait in the queue, too, up to that many times its length; more is left to the background. */
const QUEUE_FACTOR = 2
/** Bookkeeping per tree in memory. */
const ROWS_OVERHEAD = 256
/** Bytes of rows and ranges after which dead ones are collected. */
const COLLECT_BYTES = 4 << 20
const FLAGS_OFFSET = 24
/** Bytes of a pack read at once to look at the flags of its trees. */
const MAX_LOOK_BYTES = 8 << 20

/**
 * TreeSource over a repository's packs and its local index: rows come from memory, from those on their way into the index, from the index, else from
 * the tree's pack. What was decoded goes into the index, so that no tree is ever decoded again; the trees nobody asks for follow in the background.
 */
export class TreeLoader implements TreeSource {
  readonly #options: TreeLoaderOptions
  readonly #packs: PackLoader<Buffer>
  readonly #store: RowsStore
  readonly #fill: TreeFill
  readonly #memory: LRUCache<string, Buffer>
  /** the last tree too large for the memory */
  #large: { readonly key: string, readonly rows: Buffer } | null = null
  readonly #deadBuffers = new DeadBuffers(COLLECT_BYTES)
  readonly #loading = new Map<string, Promise<Buffer>>()
  readonly #queueBytes: number
  /** when a tree was last asked for, at hand or not; performance.now() */
  #lastServed = -Infinity
  #flags = 0
  readonly #flagsListeners = new Set<(flags: number) => void>()
  readonly #knownListeners = new Set<() => void>()
  readonly #abort = new AbortController()
  #closed: Promise<void> | null = null

  constructor(options: TreeLoaderOptions) {
    this.#options = options
    this.#queueBytes = options.queueBytes ?? QUEUE_BYTES
    this.#memory = new LRUCache({ maxSize: options.memoryBytes ?? MEMORY_BYTES, sizeCalculation: rows => rows.length + ROWS_OVERHEAD })
    this.#store = new RowsStore(options.index, options.log, this.#queueBytes)
    this.#fill = new TreeFill({
      index: options.index, store: this.#store, log: options.log, sliceBytes: options.sliceBytes,
      load: trees => this.#loadInBackground(trees),
      lastServed: () => {
        if (this.#packs.busy || options.busy?.() === true) this.#lastServed = performance.now()
        return this.#lastServed
      },
      look: trees => this.#look(trees),
      flagsKnown: () => this.#tell(this.#knownListeners, undefined),
      completed: () => this.#tell(this.#knownListeners, undefined),
    })
    this.#packs = new PackLoader<Buffer>(options, {
      kind: 'tree',
      decode: (keys, source, entries, ids) => options.native.decodeTrees(keys, source, entries, ids),
      arrived: (key, rows, settle) => {
        this.#keep(key, rows)
        settle()
      },
      discard: () => {},
      closed: () => void this.close(),
    }, BUDGETS)
  }

  /** Only after fillInBackground(): before the first index files are added, nothing is missing either. */
  get complete(): boolean { return this.#fill.complete }
  get flags(): number { return this.#flags | this.#options.index.flags }

  peek(id: BlobId): Buffer | null {
    this.#lastServed = performance.now()
    const key = idKey(id)
    const known = this.#memory.get(key) ?? (this.#large?.key === key ? this.#large.rows : undefined) ?? this.#store.get(key)
    if (known !== undefined) return known
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
    const load = new Promise<Buffer>((resolve, reject) => {
      this.#want(key, id, 'demand', (_, rows) => rows instanceof Error ? reject(rows) : resolve(rows), 0)
    }).finally(() => this.#loading.delete(key))
    this.#loading.set(key, load)
    return load
  }

  fetch(ids: readonly BlobId[], onRows: OnItem<Buffer>): void {
    for (let i = 0; i < ids.length; i++) {
      const rows = this.peek(ids[i])
      if (rows !== null) this.#packs.deliver(onRows, i, rows)
      else this.#want(idKey(ids[i]), ids[i], 'ahead', onRows, i)
    }
  }

  /**
   * Put the rows of all trees of the repository into the index, behind demand. Resolves when there is nothing left to do for now, or when closed.
   * To be called when the index files have been added.
   */
  fillInBackground(): Promise<void> { return this.#fill.start() }

  /** Index files were added or removed, or the index was reset: what was known of packs may be wrong, and there may be more to fill. */
  indexChanged(): void { this.#fill.indexChanged() }

  hurry(): void { this.#fill.hurry() }

  /** Called when `flags` has grown. @returns a function that ends the calls */
  onFlags(listener: (flags: number) => void): () => void {
    this.#flagsListeners.add(listener)
    return () => { this.#flagsListeners.delete(listener) }
  }

  /** `flags` speaks for every tree of the index files added. */
  get flagsKnown(): boolean { return this.#fill.flagsKnown }

  /** Called when `flagsKnown`, or `complete`, becomes true. @returns a function that ends the calls */
  onFlagsKnown(listener: () => void): () => void {
    this.#knownListeners.add(listener)
    return () => { this.#knownListeners.delete(listener) }
  }

  /** Everything pending rejects with ERR_ABORTED; rows decoded already are still given to the index. Idempotent. */
  close(): Promise<void> { return this.#closed ??= this.#close() }

  async #close(): Promise<void> {
    // Once `#closed` is set: closing the packs comes back here.
    await Promise.resolve()
    this.#abort.abort()
    this.#packs.close()
    this.#memory.clear()
    this.#large = null
    await Promise.allSettled(this.#loading.values())
    await this.#fill.close()
    await this.#store.drained()
  }

  /** For demand and read-ahead: what arrives is remembered. */
  #want(key: string, id: BlobId, priority: 'demand' | 'ahead', onRows: OnItem<Buffer>, index: number): void {
    this.#packs.want(key, id, priority, (i, rows) => {
      if (!(rows instanceof Error)) {
        this.#remember(key, rows)
        if (this.#fill.paused) this.#fill.resume()
      }
      onRows(i, rows)
    }, index)
  }

  #loadInBackground(trees: readonly PackedBlob[]): Promise<(Error | null)[]> {
    const wanted = trees.filter(({ id }) => this.#store.get(idKey(id)) === undefined)
    if (wanted.length === 0) return Promise.resolve([])
    return new Promise(resolve => {
      const errors: (Error | null)[] = new Array(wanted.length).fill(null)
      let missing = wanted.length
      for (let i = 0; i < wanted.length; i++) {
        this.#packs.want(idKey(wanted[i].id), wanted[i].id, 'background', (index, rows) => {
          if (rows instanceof Error) errors[index] = rows
          if (--missing === 0) resolve(errors)
        }, i)
      }
    })
  }

  /** The flags of these trees of one pack, without their rows. */
  async #look(trees: readonly PackedBlob[]): Promise<boolean> {
    if (!trees.every(isSound)) return false
    const { backend, keys, index, native } = this.#options
    const start = trees[0].offset
    const last = trees[trees.length - 1]
    // a pack of format 1, in which trees lie far apart
    if (last.offset + last.length - start > MAX_LOOK_BYTES) return false
    try {
      const bytes = await readPack(backend, index.packName(last.pack), start, last.offset + last.length - start, { signal: this.#abort.signal, treesUpTo: 0 })
      const flags = await native.treeFlags(keys, bytes, decodeEntries(trees, start), Buffer.concat(trees.map(({ id }) => id)))
      if (flags >= 0) this.#addFlags(flags)
      return flags >= 0
    } catch {
      return false
    }
  }

  #keep(key: string, rows: Buffer): void {
    this.#deadBuffers.made(rows.length)
    if (this.#store.bytes < this.#queueBytes * QUEUE_FACTOR) this.#store.put(key, rows)
    this.#addFlags(rows.readUInt32LE(FLAGS_OFFSET))
  }

  #addFlags(flags: number): void {
    const before = this.#flags
    this.#flags |= flags
    if (this.#flags !== before && (this.#flags & ~(before | this.#options.index.flags)) !== 0) this.#tell(this.#flagsListeners, this.flags)
  }

  #remember(key: string, rows: Buffer): void {
    if (this.#closed !== null) return
    if (rows.length + ROWS_OVERHEAD > this.#memory.maxSize) this.#large = { key, rows }
    else this.#memory.set(key, rows)
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
