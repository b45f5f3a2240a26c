import { setMaxListeners } from 'node:events'
import { LRUCache } from 'lru-cache'
import { abortedError, raceAbort, throwIfAborted } from '../util/abort.js'
import { AroundBackend } from './around.js'
import type { Handle, ReadBackend, ReadOptions } from './backend.js'

/** Longer ones are evicted before they are used again: measured over the trees of 30 backups (53 MB) with 40 MiB kept, 83 MB came in blocks of 512 KiB, 338 MB in those of 1 MiB. */
const BLOCK_BYTES = 512 << 10
/** Of what comes, so much more than is asked for is no gain any more (many packs, far too few blocks kept): then short ranges are read by themselves. */
const WASTE_FACTOR = 3
/** In shares of a block: who reads more at once knows what it wants. */
const MAX_SHARE = 1 / 2

/**
 * Reads short ranges of packs as part of long blocks, which are kept in memory: for what is asked for in small pieces that lie close together, here and there,
 * again and again, over a link on which a request takes longer than a MiB. The trees of one snapshot lie like that in the packs of trees of all backups.
 */
export class BlockBackend extends AroundBackend {
  readonly #blocks: LRUCache<string, Promise<Buffer>>
  readonly #sizes = new LRUCache<string, Promise<number>>({ max: 4096 })
  readonly #blockBytes: number
  readonly #maxBytes: number
  #asked = 0
  #fetched = 0
  readonly #abort = new AbortController()

  /** @param maxBytes of blocks kept */
  constructor(inner: ReadBackend, maxBytes: number, blockBytes = BLOCK_BYTES) {
    super(inner)
    setMaxListeners(0, this.#abort.signal) // every block under way listens
    this.#blockBytes = blockBytes
    this.#maxBytes = maxBytes
    this.#blocks = new LRUCache({ max: Math.max(1, Math.floor(maxBytes / blockBytes)) })
  }

  override async read(handle: Handle, offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    const { signal, again = 0, into } = options
    throwIfAborted(signal)
    const first = Math.floor(offset / this.#blockBytes)
    const last = Math.floor((offset + Math.max(1, length) - 1) / this.#blockBytes)
    const short = handle.type === 'data' && length > 0 && length <= this.#blockBytes * MAX_SHARE && last - first <= 1 && this.#fetched <= this.#maxBytes * 2 + this.#asked * WASTE_FACTOR
    this.#asked += length
    if (short && again === 0) {
      // What fails is asked for by itself, which says best what is wrong.
      const blocks = await raceAbort(Promise.all(first === last ? [this.#block(handle, first)] : [this.#block(handle, first), this.#block(handle, last)]), signal)
        .catch(() => null)
      throwIfAborted(signal)
      const bytes = into !== undefined && into.length >= length ? into.subarray(0, length) : Buffer.allocUnsafe(length)
      let copied = 0
      for (const [i, block] of (blocks ?? []).entries()) {
        const from = offset - (first + i) * this.#blockBytes
        copied += block.subarray(Math.max(0, from), Math.max(0, from + length)).copy(bytes, copied)
      }
      if (copied === length) return bytes
    }
    // Bytes that proved wrong are not to be found here once more.
    if (again > 0) for (let block = first; block <= last; block++) this.#blocks.delete(keyOf(handle, block))
    return this.inner.read(handle, offset, length, options)
  }

  /** Give the memory back. */
  clear(): void {
    this.#blocks.clear()
    this.#sizes.clear()
  }

  /** It belongs to whoever made the inner one. */
  override async close(): Promise<void> {
    this.#abort.abort(abortedError())
    this.clear()
  }

  protected override around<T>(options: ReadOptions, request: (options: ReadOptions) => Promise<T>): Promise<T> { return request(options) }

  #block(handle: Handle, number: number): Promise<Buffer> {
    const key = keyOf(handle, number)
    let block = this.#blocks.get(key)
    if (block === undefined) {
      block = this.#fetch(handle, number)
      this.#blocks.set(key, block)
      block.catch(() => { if (this.#blocks.peek(key) === block) this.#blocks.delete(key) })
    }
    return block
  }

  async #fetch(handle: Handle, number: number): Promise<Buffer> {
    const start = number * this.#blockBytes
    const length = Math.min(this.#blockBytes, await this.#sizeOf(handle) - start)
    if (length <= 0) return Buffer.alloc(0)
    this.#fetched += length
    return this.inner.read(handle, start, length, { signal: this.#abort.signal })
  }

  #sizeOf(handle: Handle): Promise<number> {
    let size = this.#sizes.get(handle.name)
    if (size === undefined) {
      size = this.inner.stat(handle, { signal: this.#abort.signal }).then(({ size }) => size)
      this.#sizes.set(handle.name, size)
      size.catch(() => this.#sizes.delete(handle.name))
    }
    return size
  }
}

function keyOf({ name }: Handle, block: number): string { return `${name} ${block}` }
