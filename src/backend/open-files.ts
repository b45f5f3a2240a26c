import { constants, open, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { native } from '../native.js'

interface Entry {
  readonly file: Promise<{ handle: FileHandle, ino: bigint, dev: bigint }>
  readers: number
  /** compared with its path */
  checkedMs: number
  usedMs: number
  /** not in the table any more: closed with its last reader */
  dropped: boolean
}

export interface OpenFilesOptions {
  /** files kept open */
  max?: number
  /** closed when not read for that long: the space of a deleted pack comes back only then */
  idleMs?: number
  /** believed to be still the file of its path for that long */
  trustMs?: number
  now?: () => number
}

/**
 * Files kept open between reads: a pack is read in hundreds of ranges, and opening costs as much as reading one.
 *
 * A path may come to name another file (a pack repaired, or written again) or none (prune). An open file is therefore compared
 * with its path again after a moment; a read in between still gets the old bytes, which is right for files named by their content.
 */
export class OpenFiles {
  readonly #entries = new Map<string, Entry>()
  readonly #max: number
  readonly #idleMs: number
  readonly #trustMs: number
  readonly #now: () => number
  #timer: NodeJS.Timeout | null = null
  #closed = false

  constructor({ max = 128, idleMs = 10_000, trustMs = 1000, now = () => performance.now() }: OpenFilesOptions = {}) {
    this.#max = max
    this.#idleMs = idleMs
    this.#trustMs = trustMs
    this.#now = now
  }

  /** files open now */
  get size(): number { return this.#entries.size }

  /** Up to `length` bytes at `offset`, in `into` if it has room: fewer at the end of the file. Rejects as node:fs does. */
  async read(path: string, offset: number, length: number, into?: Buffer): Promise<Buffer> {
    const kept = this.#entries.get(path)
    if (kept) {
      const bytes = await this.#readFrom(path, kept, offset, length, into).catch(error => {
        // ESTALE: the server replaced the file. Anything else is tried again from scratch as well.
        void this.#drop(path, kept)
        if ((error as NodeJS.ErrnoException).code === 'EIO') throw error
        return null
      })
      if (bytes && bytes.length === length) return bytes
      // It ends too early: perhaps it was still being copied when it was opened. The file of now has the last word.
      void this.#drop(path, kept)
    }
    const entry = this.#open(path)
    return this.#readFrom(path, entry, offset, length, into).catch(error => {
      void this.#drop(path, entry)
      throw error
    })
  }

  /**
   * Ranges of several files, each into its place in `into`, with one hop to the thread pool. Never rejects.
   * @returns per range 1 if it was read whole; what was not is to be tried by read()
   */
  async readRanges(ranges: readonly { path: string, offset: number, length: number, at: number }[], into: Buffer): Promise<ArrayLike<number>> {
    const entries = ranges.map(({ path }) => this.#open(path))
    for (const entry of entries) entry.readers++
    try {
      const found = await Promise.all(ranges.map(({ path }, i) => this.#usable(path, entries[i]).catch(() => null)))
      const numbers = new Float64Array(ranges.length * 4)
      // what cannot be opened is asked for with a length of 0, and was not read
      ranges.forEach(({ offset, length, at }, i) => numbers.set(found[i] === null ? [0, 0, 0, 0] : [found[i].fd, offset, length, at], i * 4))
      const read = await native.readRanges(numbers, into)
      return read.map((whole, i) => found[i] === null ? 0 : whole)
    } finally {
      for (const entry of entries) {
        entry.readers--
        if (entry.dropped) void this.#closeIfUnused(entry)
      }
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    if (this.#timer) clearInterval(this.#timer)
    await Promise.all([...this.#entries].map(([path, entry]) => this.#drop(path, entry)))
  }

  #open(path: string): Entry {
    const existing = this.#entries.get(path)
    if (existing) return existing
    const file = (async () => {
      // Without O_NONBLOCK, opening a FIFO in the place of a pack would never end.
      const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
      try {
        const { ino, dev } = await handle.stat({ bigint: true })
        return { handle, ino, dev }
      } catch (error) {
        await handle.close()
        throw error
      }
    })()
    file.catch(() => {})
    const entry: Entry = { file, readers: 0, checkedMs: this.#now(), usedMs: this.#now(), dropped: false }
    this.#entries.set(path, entry)
    for (const [oldest, other] of this.#entries) {
      if (this.#entries.size <= this.#max) break
      void this.#drop(oldest, other)
    }
    this.#timer ??= setInterval(() => this.#closeIdle(), this.#idleMs).unref()
    if (this.#closed) void this.#drop(path, entry)
    return entry
  }

  async #readFrom(path: string, entry: Entry, offset: number, length: number, into: Buffer | undefined): Promise<Buffer> {
    entry.readers++
    try {
      const handle = await this.#usable(path, entry)
      const buffer = into !== undefined && into.length >= length ? into.subarray(0, length) : Buffer.allocUnsafeSlow(length)
      let done = 0
      while (done < length) {
        const { bytesRead } = await handle.read(buffer, done, length - done, offset + done)
        if (bytesRead === 0) break
        done += bytesRead
      }
      return done === length ? buffer : buffer.subarray(0, done)
    } finally {
      entry.readers--
      if (entry.dropped) void this.#closeIfUnused(entry)
    }
  }

  /** The file, if it still is that of its path. @throws ESTALE */
  async #usable(path: string, entry: Entry): Promise<FileHandle> {
    const { handle, ino, dev } = await entry.file
    if (this.#now() - entry.checkedMs > this.#trustMs) {
      const found = await stat(path, { bigint: true })
      if (found.ino !== ino || found.dev !== dev) throw Object.assign(new Error('replaced'), { code: 'ESTALE' })
      entry.checkedMs = this.#now()
    }
    entry.usedMs = this.#now()
    if (!entry.dropped) {
      // to the young end
      this.#entries.delete(path)
      this.#entries.set(path, entry)
    }
    return handle
  }

  async #drop(path: string, entry: Entry): Promise<void> {
    if (this.#entries.get(path) === entry) this.#entries.delete(path)
    entry.dropped = true
    await this.#closeIfUnused(entry)
  }

  async #closeIfUnused(entry: Entry): Promise<void> {
    if (entry.readers > 0) return
    // A second close() of the same handle does no harm; a file that could not be opened needs none.
    await entry.file.then(({ handle }) => handle.close()).catch(() => {})
  }

  #closeIdle(): void {
    const now = this.#now()
    for (const [path, entry] of this.#entries) if (entry.readers === 0 && now - entry.usedMs >= this.#idleMs) void this.#drop(path, entry)
    if (this.#entries.size > 0 || !this.#timer) return
    clearInterval(this.#timer)
    this.#timer = null
  }
}
