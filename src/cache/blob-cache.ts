import { LRUCache } from 'lru-cache'
import type { NativeBlob } from '../native.js'

/** Bookkeeping per blob, so that many tiny blobs are bounded too. */
const BLOB_OVERHEAD = 256

/**
 * Decoded blobs in memory, the least recently used go first. Their memory belongs to C++, so the collector does not see it:
 * it is given back here. Only in the next turn of the event loop, because a blob handed out may be in use until then.
 */
export class BlobCache {
  readonly #blobs: LRUCache<string, NativeBlob>
  readonly #maxBytes: number
  #leaving: NativeBlob[] = []

  /** @param maxBytes of plaintext, with an allowance per blob */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
    this.#blobs = new LRUCache({
      maxSize: maxBytes,
      sizeCalculation: blob => blob.length + BLOB_OVERHEAD,
      dispose: blob => this.release(blob),
    })
  }

  get bytes(): number { return this.#blobs.calculatedSize }
  get count(): number { return this.#blobs.size }

  /** Is used again: moves to the front. */
  get(key: string): NativeBlob | undefined { return this.#blobs.get(key) }

  /** Takes the blob over, also one too large to keep: that is usable in this turn only. */
  set(key: string, blob: NativeBlob): void {
    if (blob.length + BLOB_OVERHEAD > this.#maxBytes) this.release(blob)
    else this.#blobs.set(key, blob)
  }

  delete(key: string): void { this.#blobs.delete(key) }
  clear(): void { this.#blobs.clear() }

  /** Free a blob that was handed out in this turn, but is not to be kept. */
  release(blob: NativeBlob): void {
    if (this.#leaving.length === 0) setImmediate(() => this.#free())
    this.#leaving.push(blob)
  }

  #free(): void {
    const blobs = this.#leaving
    this.#leaving = []
    for (const blob of blobs) blob.free()
  }
}
