import type { FileInfo, Handle, ReadBackend } from '../backend/backend.js'
import { MAX_FILE_LENGTH } from '../format/limits.js'
import { readNamed } from './read-named.js'

export interface PrefetchOptions {
  signal?: AbortSignal
  /** most bytes of snapshot and index files kept, still encrypted */
  maxBytes?: number
  /** false: leave out, for it is in the local index (where its place is known before the repository is opened) */
  wanted?: (handle: Handle) => boolean
}

// A list older than this is not a list of now: while somebody typed a password, a backup may have ended.
const MAX_AGE_MS = 10_000
/** restic tries 20 keys; more are read here only so that the likely ones can be tried first. */
const MAX_KEY_FILES = 1000

/**
 * What can be had without a key, read beside the key derivation (half a second): config, key files, the lists of snapshots and index
 * files, and their encrypted bytes up to a bound. Every promise is handled here, so an early failure is reported to who asks, not as unhandled.
 */
export class Prefetch {
  readonly config: Promise<Buffer>
  /** key files by name; a key file that cannot be read holds its error */
  readonly keyFiles: Promise<{ name: string, bytes: Buffer | Error }[]>
  /** all reading is over; never rejects */
  readonly finished: Promise<void>
  #files: Map<string, Promise<Buffer>> | null = new Map()
  readonly #lists: { snapshots: Promise<FileInfo[]> | null, index: Promise<FileInfo[]> | null }
  /** those of these types may lack files */
  readonly #partial = new Set<string>()
  readonly #started = performance.now()

  constructor(readonly backend: ReadBackend, { signal, maxBytes = 8 << 20, wanted = () => true }: PrefetchOptions = {}) {
    this.config = backend.readAll({ type: 'config', name: '' }, MAX_FILE_LENGTH.config, { signal })
    this.keyFiles = this.#readKeys(signal)
    const list = (type: 'snapshots' | 'index') => backend.list(type, { signal, partial: () => { this.#partial.add(type) } })
    const snapshots = list('snapshots')
    // Behind the snapshots: an index file list that is older than the snapshot list may lack what a new snapshot needs.
    const index = snapshots.then(() => list('index'))
    this.#lists = { snapshots, index }
    this.finished = this.#readFiles(maxBytes, wanted, signal)
    for (const promise of [this.config, this.keyFiles, snapshots, index]) promise.catch(() => {})
  }

  /** The list made at the start, once, if it is young and could be had; null otherwise. Snapshots are to be taken first. @param partial see ReadOptions */
  async takeList(type: 'snapshots' | 'index', partial?: () => void): Promise<FileInfo[] | null> {
    const list = performance.now() - this.#started < MAX_AGE_MS ? await this.#lists[type]?.catch(() => null) ?? null : null
    this.#lists[type] = null
    // Who lists snapshots anew must not go on with an older list of index files.
    if (type === 'snapshots' && !list) this.#lists.index = null
    if (list && this.#partial.has(type)) partial?.()
    return list
  }

  /** Bytes of a file if they were read or are being read, once; null otherwise, also when reading failed. */
  async take(handle: Handle): Promise<Buffer | null> {
    const key = `${handle.type}/${handle.name}`
    const bytes = this.#files?.get(key)
    if (!bytes) return null
    this.#files?.delete(key)
    return bytes.catch(() => null)
  }

  /** Forget everything. */
  drop(): void {
    this.#files = null
    this.#lists.snapshots = this.#lists.index = null
  }

  async #readKeys(signal: AbortSignal | undefined): Promise<{ name: string, bytes: Buffer | Error }[]> {
    const files = await this.backend.list('keys', { signal })
    return Promise.all(files.slice(0, MAX_KEY_FILES).map(async ({ name }) => ({
      name,
      bytes: await readNamed(this.backend, { type: 'keys', name }, MAX_FILE_LENGTH.keys, { signal }).catch((error: Error) => error),
    })))
  }

  async #readFiles(maxBytes: number, wanted: (handle: Handle) => boolean, signal: AbortSignal | undefined): Promise<void> {
    let left = maxBytes
    const under = new Set<Promise<unknown>>()
    for (const type of ['snapshots', 'index'] as const) {
      const files = await this.#lists[type]?.catch(() => []) ?? []
      for (const { name, size } of files) {
        if (size > left || signal?.aborted || !this.#files) continue
        const handle = { type, name }
        if (!wanted(handle)) continue
        left -= size
        const bytes = this.backend.readAll(handle, MAX_FILE_LENGTH[type], { signal })
        bytes.catch(() => {})
        this.#files.set(`${type}/${name}`, bytes)
        const done: Promise<unknown> = bytes.catch(() => {}).then(() => under.delete(done))
        under.add(done)
        if (under.size >= this.backend.connections) await Promise.race(under)
      }
    }
    await Promise.all(under)
  }
}
