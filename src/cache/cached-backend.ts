import type { FileInfo, FileType, Handle, LocationHealth, Near, Range, ReadBackend, ReadOptions, Replicas } from '../backend/backend.js'
import { fileName } from '../backend/file-name.js'
import { CorruptError } from '../errors.js'
import { raceAbort, throwIfAborted } from '../util/abort.js'
import { isIdName } from '../util/hex.js'
import type { Logger } from '../util/log.js'
import { readRanges } from './disk/pack-file.js'
import type { PackFile } from './disk/pack-file.js'
import type { DiskCache } from './disk/disk-cache.js'
import { Fetches } from './fetches.js'
import { Remembered } from './remembered.js'

export interface CachedBackendOptions {
  disk: DiskCache
  log: Logger
  /** A remote that does not answer at the start is done without, if it was heard of before: for mounts, which look again later. */
  startWithout?: boolean
  /** for that long an answer is waited for then */
  graceMs?: number
}

/** Bytes that are here already, and are fetched all the same rather than with one request more. */
const MAX_BRIDGE = 256 << 10
/**
 * Trees are fetched in blocks of so many bytes, around what is asked for: those of one snapshot lie in small pieces, here and there in the packs of trees of all backups,
 * and are asked for a few at a time; from far, a request takes longer than what it brings.
 */
const TREE_BLOCK = 512 << 10
/** So many more bytes than are asked for, and so many times as many, come that way: with many packs of trees for the few that are looked at, it does not pay. */
const MAX_SURPLUS = 32 << 20
const SURPLUS_FACTOR = 3
/** More pieces of a range than that are not fetched one by one. */
const MAX_PIECES = 3
/** The same, where what lies between is on its way already. */
const MAX_PIECES_BESIDE = 12

/**
 * A remote with a disk cache in front of it. It lies outside of all retries and limits: what is here costs no connection and no bandwidth.
 *
 * Of packs, stretches are kept as they are read. Key, snapshot and index files are named by their content and kept whole. The config and the lists of files
 * are asked for each time, and remembered for a start without the remote. What is here is as good as its MAC: with `again`, it is fetched and replaced.
 */
export class CachedBackend implements ReadBackend {
  readonly near?: Near
  readonly #inner: ReadBackend
  readonly #disk: DiskCache
  readonly #fetches: Fetches
  readonly #remembered: Remembered
  /** bytes of trees: asked for, and fetched around that */
  #asked = 0
  #surplus = 0

  constructor(inner: ReadBackend, { disk, log, startWithout = false, graceMs }: CachedBackendOptions) {
    this.#inner = inner
    this.#disk = disk
    this.#fetches = new Fetches(inner, (handle, offset, bytes, options) => this.#put(handle, offset, bytes, options))
    this.#remembered = new Remembered(inner, disk, { log, startWithout, graceMs })
    if (disk.keepsPacks) {
      this.near = {
        look: packs => disk.packs.look([...packs].filter(isIdName)),
        has: (pack, offset, length) => disk.has(pack, offset, length),
        coming: (pack, offset, length) => disk.has(pack, offset, length) || this.#fetches.has({ type: 'data', name: pack }, offset, offset + length),
        get ahead() { return disk.ahead },
      }
    }
  }

  get location(): string { return this.#inner.location }
  get connections(): number { return this.#inner.connections }
  get sources(): number { return (this.#inner.sources ?? 1) + 1 }
  get replicas(): Replicas | undefined { return this.#inner.replicas }
  health(): LocationHealth[] { return this.#inner.health?.() ?? [] }

  async diskUse(): Promise<{ usedBytes: number | null, maxBytes: number | null }> {
    const { quota, keepsPacks } = this.#disk
    return { usedBytes: await quota.usage(), maxBytes: keepsPacks ? await quota.max().catch(() => null) : 0 }
  }

  /** The remote answers, after it was done without. */
  onBack(listener: () => void): void { this.#remembered.onBack(listener) }

  list(type: Exclude<FileType, 'config'>, options: ReadOptions = {}): Promise<FileInfo[]> {
    return type === 'data' || type === 'locks' ? this.#inner.list(type, options) : this.#remembered.list(type, options)
  }

  async read(handle: Handle, offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    if (handle.type !== 'data' || this.near === undefined || length === 0 || !isIdName(handle.name)) return this.#inner.read(handle, offset, length, fromBehind(options))
    throwIfAborted(options.signal)
    if ((options.again ?? 0) > 0) {
      const bytes = await this.#inner.read(handle, offset, length, fromBehind(options))
      await this.#put(handle, offset, bytes, options)
      return bytes
    }
    const { into } = options
    const bytes = into !== undefined && into.length >= length ? into.subarray(0, length) : Buffer.allocUnsafeSlow(length)
    if (this.#disk.readQueued(handle.name, offset, bytes)) return bytes
    await this.near.look([handle.name])
    throwIfAborted(options.signal)
    await raceAbort(this.#fill(handle, offset, bytes, options), options.signal)
    return bytes
  }

  async readRanges(ranges: readonly Range[], into: Buffer, { signal }: { signal?: AbortSignal } = {}): Promise<ArrayLike<number>> {
    throwIfAborted(signal)
    if (this.near === undefined) return new Uint8Array(ranges.length)
    await this.near.look(new Set(ranges.map(({ handle }) => handle.name)))
    throwIfAborted(signal)
    const queued = ranges.map(({ handle: { type, name }, offset, length, at }) => type === 'data' && this.#disk.readQueued(name, offset, into.subarray(at, at + length)))
    if (queued.every(Boolean)) return new Uint8Array(ranges.length).fill(1)
    const files = ranges.map(({ handle: { type, name }, offset, length }, i) => {
      const file = type === 'data' && !queued[i] ? this.#disk.packs.get(name) : null
      return file?.has(offset, offset + length) ? file : null
    })
    const held = new Set(files.filter(file => file !== null))
    for (const file of held) {
      file.hold()
      this.#disk.used(file)
    }
    const read = readRanges(ranges.map(({ offset, length, at }, i) => ({ file: files[i], offset, length, at })), into)
      .finally(() => { for (const file of held) file.release() })
    const done = await raceAbort(read, signal)
    return queued.map((here, i) => here ? 1 : done[i])
  }

  async readAll(handle: Handle, maxLength: number, options: ReadOptions = {}): Promise<Buffer> {
    const { type, name } = handle
    if (type === 'config') return this.#remembered.config(maxLength, options)
    if (type === 'data' || type === 'locks' || !isIdName(name)) return this.#inner.readAll(handle, maxLength, fromBehind(options))
    throwIfAborted(options.signal)
    const known = (options.again ?? 0) > 0 ? null : await raceAbort(this.#disk.file(name), options.signal)
    if (known !== null) {
      if (known.length > maxLength) throw new CorruptError(fileName(handle), `${known.length} bytes are too many, ${maxLength} at most`)
      return known
    }
    const bytes = await this.#inner.readAll(handle, maxLength, fromBehind(options))
    // A copy: the caller may do with his bytes as he likes.
    void this.#disk.putFile(name, Buffer.from(bytes))
    return bytes
  }

  stat(handle: Handle, options: ReadOptions = {}): Promise<FileInfo> { return this.#inner.stat(handle, options) }

  async close(): Promise<void> {
    this.#remembered.close()
    await this.#inner.close()
    await this.#disk.close()
  }

  /** Every part from where it can be had first. */
  async #fill(handle: Handle, offset: number, bytes: Buffer, options: ReadOptions): Promise<void> {
    const end = offset + bytes.length
    const file = this.#disk.packs.get(handle.name)
    const missing = file === null ? [[offset, end] as [number, number]] : bridge(file.holes(offset, end))
    const part = (from: number, to: number) => bytes.subarray(from - offset, to - offset)
    const fetch = (from: number, to: number) => this.#fetch(handle, file, from, part(from, to), options)
    const parts: Promise<void>[] = missing.flatMap(([from, to]) => this.#pieces(handle, from, to)).map(([from, to]) => fetch(from, to))
    if (file !== null) {
      let at = offset
      for (const [from, to] of [...missing, [end, end]]) {
        if (from > at) {
          const start = at
          parts.push(this.#readFile(handle, file, start, part(start, from)).catch(() => fetch(start, from)))
        }
        at = to
      }
    }
    await Promise.all(parts)
  }

  /** What is on its way is waited for, and not fetched once more beside the rest; as long as that makes few requests. */
  #pieces(handle: Handle, from: number, to: number): [number, number][] {
    const pieces = this.#fetches.cut(handle, from, to)
    const requests = pieces.filter(([from, to]) => !this.#fetches.has(handle, from, to)).length
    return requests > MAX_PIECES_BESIDE ? [[from, to]] : pieces
  }

  /** Trees with what lies around them. */
  async #fetch(handle: Handle, file: PackFile | null, from: number, into: Buffer, options: ReadOptions): Promise<void> {
    const to = from + into.length
    const { treesUpTo = 0 } = options
    let [start, end] = [from, to]
    if (to <= treesUpTo && !this.#fetches.has(handle, from, to)) {
      const block: [number, number] = [Math.floor(from / TREE_BLOCK) * TREE_BLOCK, Math.min(treesUpTo, Math.ceil(to / TREE_BLOCK) * TREE_BLOCK)]
      const [hole] = (file?.holes(...block) ?? [block]).filter(hole => hole[0] <= from && hole[1] >= to)
      this.#asked += into.length
      if (hole !== undefined && this.#surplus <= MAX_SURPLUS + this.#asked * SURPLUS_FACTOR) [start, end] = this.#fetches.around(handle, from, to, hole)
    }
    if (end - start === into.length) return this.#fetches.read(handle, from, into, fromBehind(options))
    this.#surplus += end - start - into.length
    const around = Buffer.allocUnsafeSlow(end - start)
    await this.#fetches.read(handle, start, around, fromBehind(options))
    around.copy(into, 0, from - start, to - start)
  }

  async #readFile({ name }: Handle, file: PackFile, offset: number, into: Buffer): Promise<void> {
    file.hold()
    this.#disk.used(file)
    try {
      await file.read(offset, into)
    } catch (error) {
      this.#disk.unreadable(name, error)
      throw error
    } finally {
      file.release()
    }
  }

  #put({ name }: Handle, offset: number, bytes: Buffer, { treesUpTo, keep }: ReadOptions): Promise<void> | null {
    this.#remembered.answered()
    return this.#disk.put(name, treesUpTo === undefined ? 'data' : 'trees', offset, bytes, keep)
  }
}

/** For the backend behind the cache, which is one source less. */
function fromBehind(options: ReadOptions): ReadOptions {
  return (options.again ?? 0) > 0 ? { ...options, again: options.again! - 1 } : options
}

/** Stretches to fetch, of those that are missing: with what is little between them, and few. */
function bridge(holes: [number, number][]): [number, number][] {
  const pieces: [number, number][] = []
  for (const [from, to] of holes) {
    const last = pieces.at(-1)
    if (last !== undefined && from - last[1] <= MAX_BRIDGE) last[1] = to
    else pieces.push([from, to])
  }
  return pieces.length <= MAX_PIECES ? pieces : [[pieces[0][0], pieces.at(-1)![1]]]
}
