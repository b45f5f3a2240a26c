import type { LocalIndex, PackedBlob } from '../index/index.js'
import type { Logger } from '../util/log.js'
import { concernsCopy, isSound } from './pack-reader.js'

export interface TreeFillOptions {
  readonly index: Pick<LocalIndex, 'treesWithoutRows' | 'packsWithoutRows' | 'missingTrees' | 'markPackTried'>
  /** Decode these trees of one pack and put their rows on the way into the index; per tree, why not. Never rejects. */
  readonly load: (trees: readonly PackedBlob[]) => Promise<(Error | null)[]>
  /** when somebody was last served with what this would compete with; performance.now() */
  readonly lastServed: () => number
  /** Are the flags of all these trees of one pack known now? To look at them costs a tenth of having their rows stored. Never rejects. */
  readonly look: (trees: readonly PackedBlob[]) => Promise<boolean>
  /** called when the flags of every tree of the index files added are known */
  readonly flagsKnown: () => void
  readonly store: { readonly broken: boolean, room(): Promise<void>, drained(): Promise<void> }
  readonly log: Logger
  /** called when every tree of the index files added has its rows in the index */
  readonly completed: () => void
  /** trees decoded at once, and their bytes in the pack */
  readonly sliceTrees?: number
  readonly sliceBytes?: number
}

/**
 * The background waits while somebody is served: who walks through the repository needs the processors. A slice of
 * decoding takes 10 ms, and as much again to store.
 */
const QUIET_MS = 50
/** ... but not for ever: a slice each second all the same. */
const PATIENCE_MS = 1000
/** Trees looked at in one go, and their bytes in the pack. */
const LOOK_TREES = 2048
const LOOK_BYTES = 1 << 20
/** Trees without rows listed at once. */
const TREES_LISTED = 1024
/** Times a pack is gone through before its trees are given up: the index may lose rows, but not for ever. */
const MAX_TRIES = 2
/** Plaintext of a slice, as a multiple of its bytes in the pack: trees compress to a fourth or less. */
const PLAIN_FACTOR = 6

/** Puts the rows of all trees of a repository into the index, behind demand: pack by pack, newest first. */
export class TreeFill {
  readonly #options: TreeFillOptions
  readonly #sliceTrees: number
  readonly #sliceBytes: number
  /** how often each pack was gone through since the index changed */
  readonly #tries = new Map<number, number>()
  #lookWanted = false
  #started = false
  #filling: Promise<void> | null = null
  /** there may be something to do since the filling last looked */
  #more = false
  /** the repository was out of reach */
  #paused = false
  #complete = false
  /** what looking at all flags has led to, since the index changed */
  #looked: 'no' | 'known' | 'failed' = 'no'
  #closed = false

  constructor(options: TreeFillOptions) {
    this.#options = options
    this.#sliceTrees = options.sliceTrees ?? 256
    this.#sliceBytes = options.sliceBytes ?? 256 << 10
  }

  get complete(): boolean { return this.#complete }
  get flagsKnown(): boolean { return this.#complete || this.#looked === 'known' }

  /** Resolves when there is nothing left to do for now, or when closed. */
  start(): Promise<void> {
    this.#started = true
    this.#paused = false
    return this.#fill()
  }

  /** What was known of packs may be wrong, and there may be more to fill. */
  indexChanged(): void {
    this.#complete = false
    this.#looked = 'no'
    this.#tries.clear()
    this.resume()
  }

  /** Somebody got an answer: the repository is in reach again. */
  resume(): void {
    this.#paused = false
    if (this.#started && !this.#complete) void this.#fill()
  }

  get paused(): boolean { return this.#paused }

  /** Somebody asks file after file what could be answered once for all, were the flags of all trees known. */
  hurry(): void { this.#lookWanted = true }

  /** Resolves when the slice under way has ended. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#filling
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
        await this.#fillPacks()
        await this.#checkComplete()
      } catch (error) {
        this.#options.log.error('filling the index failed', { error })
      }
    }
    this.#filling = null
  }

  get #lookDue(): boolean { return this.#lookWanted && this.#looked === 'no' }
  get #stopped(): boolean { return this.#closed || this.#paused || this.#options.store.broken }

  async #fillPacks(): Promise<void> {
    while (!this.#stopped) {
      if (this.#lookDue) await this.#lookAtAll()
      const pack = this.#nextPack()
      if (pack === null) return
      await this.#fillPack(pack)
      await this.#options.store.drained()
    }
  }

  #nextPack(): number | null {
    const listed = this.#options.index.packsWithoutRows(this.#tries.size + 1)
    return listed.find(pack => (this.#tries.get(pack) ?? 0) < MAX_TRIES) ?? null
  }

  async #fillPack(pack: number): Promise<void> {
    let failed = false
    let slices: PackedBlob[][] = []
    for (let next = 0; !this.#closed;) {
      if (slices.length === 0) {
        const trees = this.#options.index.treesWithoutRows(pack, next, TREES_LISTED)
        if (trees.length === 0) break
        next = trees[trees.length - 1].offset + 1
        slices = this.#cut(trees.filter(isSound), this.#sliceTrees, this.#sliceBytes)
        continue
      }
      await this.#quiet()
      await this.#options.store.room()
      if (this.#stopped || this.#lookDue) return
      const errors = await this.#options.load(slices.shift()!)
      // Later, when somebody who asked got an answer.
      if (errors.some(error => error !== null && !concernsCopy(error))) this.#paused = true
      failed ||= errors.some(error => error !== null)
      if (this.#stopped) return
    }
    if (this.#closed) return
    const tries = (this.#tries.get(pack) ?? 0) + 1
    this.#tries.set(pack, failed ? MAX_TRIES : tries)
    if (!failed) return
    await this.#options.index.markPackTried(pack).catch(error => this.#options.log.debug('a pack could not be marked', { error }))
  }

  async #lookAtAll(): Promise<void> {
    const { index, look, flagsKnown } = this.#options
    let seen = 0
    let known = true
    for (const pack of index.packsWithoutRows(Number.MAX_SAFE_INTEGER)) {
      for (let next = 0; known && !this.#closed;) {
        const trees = index.treesWithoutRows(pack, next, LOOK_TREES)
        if (trees.length === 0) break
        next = trees[trees.length - 1].offset + 1
        seen += trees.length
        const looks = await Promise.all(this.#cut(trees, LOOK_TREES, LOOK_BYTES).map(look))
        known = looks.every(Boolean)
      }
    }
    if (this.#closed) return
    // Those that are missing in packs which were tried before were not looked at.
    known &&= index.missingTrees() <= seen
    this.#looked = known ? 'known' : 'failed'
    if (known) flagsKnown()
  }

  #cut(trees: readonly PackedBlob[], maxTrees: number, maxBytes: number): PackedBlob[][] {
    const slices: PackedBlob[][] = []
    let slice: PackedBlob[] = []
    let bytes = 0
    let plain = 0
    for (const tree of trees) {
      bytes += tree.length
      plain += tree.plainLength || tree.length
      if (slice.length > 0 && (slice.length >= maxTrees || bytes > maxBytes || plain > maxBytes * PLAIN_FACTOR)) {
        slices.push(slice)
        slice = []
        bytes = tree.length
        plain = tree.plainLength || tree.length
      }
      slice.push(tree)
    }
    if (slice.length > 0) slices.push(slice)
    return slices
  }

  /** Resolves when nobody has been served for a while, or patience ends. */
  async #quiet(): Promise<void> {
    const end = performance.now() + PATIENCE_MS
    while (!this.#lookDue && !this.#closed) {
      const wait = Math.min(this.#options.lastServed() + QUIET_MS, end) - performance.now()
      if (wait <= 0) return
      await new Promise(resolve => setTimeout(resolve, wait))
    }
  }

  async #checkComplete(): Promise<void> {
    if (this.#complete || this.#stopped) return
    await this.#options.store.drained()
    if (this.#stopped || this.#options.index.missingTrees() > 0) return
    this.#complete = true
    this.#options.completed()
  }
}
