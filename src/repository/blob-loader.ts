import type { Near, ReadBackend } from '../backend/backend.js'
import { BlobCache } from '../cache/blob-cache.js'
import type { BlobId, BlobSource } from '../fs/sources.js'
import type { Native, NativeBlob } from '../native.js'
import { idKey } from '../util/id-key.js'
import { AheadReader } from './ahead-reader.js'
import { plainLength, REMOTE_LIMITS } from './fetch-plan.js'
import { PackLoader, type PackLoaderOptions } from './pack-loader.js'
import type { OnItem } from './pack-read.js'

export interface BlobLoaderOptions extends PackLoaderOptions {
  readonly native: Pick<Native, 'decodeBlobs'>
  /** bytes of decoded blobs kept */
  readonly cacheBytes?: number
}

/**
 * For a far repository without a disk cache: what is under way fills the link for a round trip, and what was read ahead is kept until it is used. Over 100 ms, 500 MB
 * are read in 8.1 s instead of 17.4 s; with more read ahead than is kept, everything comes twice.
 */
export const REMOTE_BUDGETS = { plan: REMOTE_LIMITS, inFlightBytes: 24 << 20, aheadBytes: 20 << 20, cacheBytes: 24 << 20 }
/** With one: the link is filled by prepare(), and what is there is decoded shortly before it is used. */
export const CACHED_BUDGETS = { plan: REMOTE_LIMITS, inFlightBytes: 12 << 20, aheadBytes: 8 << 20, cacheBytes: 8 << 20 }
const BUDGETS = { inFlightBytes: 9 << 20, aheadBytes: 8 << 20 }
const CACHE_BYTES = 8 << 20

/** BlobSource over a repository's packs: file contents, decoded, with those used last kept in memory. */
export class BlobLoader implements BlobSource {
  readonly #packs: PackLoader<NativeBlob>
  readonly #cache: BlobCache
  readonly #located: BlobLoaderOptions['located']
  readonly #ahead: AheadReader | null
  readonly #abort = new AbortController()
  /** the blob being handed to its readers, not in the cache yet */
  #delivering: { readonly key: string, readonly blob: NativeBlob, dropped: boolean } | null = null

  constructor(options: BlobLoaderOptions) {
    this.#located = options.located
    this.#cache = new BlobCache(options.cacheBytes ?? CACHE_BYTES)
    const { backend, index } = options
    this.#ahead = hasNear(backend) ? new AheadReader({ backend, index, signal: this.#abort.signal }) : null
    this.#packs = new PackLoader<NativeBlob>(options, {
      kind: 'blob',
      decode: (keys, source, entries, ids) => options.native.decodeBlobs(keys, source, entries, ids),
      arrived: (key, blob, settle) => this.#arrived(key, blob, settle),
      discard: blob => blob.free(),
      closed: () => {
        this.#abort.abort()
        this.#cache.clear()
      },
    }, BUDGETS)
  }

  get aheadBudget(): number { return this.#packs.aheadBudget }

  get foresight(): number { return this.#ahead?.capacity ?? 0 }

  async prepare(ids: readonly BlobId[]): Promise<void> { await this.#ahead?.bring(ids.map(id => this.#packs.locate(idKey(id), id))) }

  length(id: BlobId): number {
    const locations = this.#packs.locate(idKey(id), id)
    return locations.length === 0 ? -1 : plainLength(locations[0])
  }

  peek(id: BlobId): NativeBlob | null { return this.#find(idKey(id)) ?? null }

  drop(id: BlobId): void {
    const key = idKey(id)
    if (key === this.#delivering?.key) this.#delivering.dropped = true
    else this.#cache.delete(key)
  }

  refresh(): Promise<boolean> { return this.#packs.refresh() }
  async located(id: BlobId): Promise<void> { await this.#located?.(id) }

  fetch(ids: readonly BlobId[], priority: 'demand' | 'ahead', onBlob: OnItem<NativeBlob>): void {
    for (let i = 0; i < ids.length; i++) {
      const key = idKey(ids[i])
      const cached = this.#find(key)
      if (cached !== undefined) this.#packs.deliver(onBlob, i, cached)
      else this.#packs.want(key, ids[i], priority, onBlob, i)
    }
  }

  /** Everything pending is answered ERR_ABORTED, memory is given back. Idempotent. */
  close(): void { this.#packs.close() }

  /** something is being read or decoded */
  get busy(): boolean { return this.#packs.busy }

  /** For logs and tests. */
  stats(): { wanted: number, inFlightBytes: number, aheadBytes: number, cachedBytes: number } {
    return { ...this.#packs.stats(), cachedBytes: this.#cache.bytes }
  }

  #find(key: string): NativeBlob | undefined { return key === this.#delivering?.key ? this.#delivering.blob : this.#cache.get(key) }

  /** Kept only if no reader drops it at once, which many do: in and out of the cache costs more than all the rest here. */
  #arrived(key: string, blob: NativeBlob, settle: () => void): void {
    const delivering = this.#delivering = { key, blob, dropped: false }
    settle()
    this.#delivering = null
    if (delivering.dropped || this.#packs.closed) this.#cache.release(blob)
    else this.#cache.set(key, blob)
  }
}

function hasNear(backend: ReadBackend): backend is ReadBackend & { near: Near } { return backend.near !== undefined }
