import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { native } from '../../native.js'
import { Intervals } from './intervals.js'
import { MAP } from './layout.js'

/*
 * Which stretches of a pack are there stands in a file of records beside it, of 32 bytes each, which are only ever appended:
 *
 *   offset f64le | length f64le | inode number of the pack's file f64le | check u32le | 0 u32le
 *
 * A record is written when its bytes are: who is killed in between leaves bytes that nobody counts on. Several processes append to the same file without
 * knowing of each other. The inode number tells records of a file that was evicted from those of the one that took its place; the time of its birth, which the
 * check is over as well, does so where the number is used again. None of this is trusted further
 * than that: without fsync a power failure may leave records of bytes that never were, and whoever reads them finds that their MAC is wrong.
 *
 * Not SEEK_HOLE: it knows whole blocks only (of 4 KiB, or of what the file system likes), while blobs end anywhere and lie back to back.
 */
const RECORD = 32

const { O_RDONLY, O_RDWR, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
/** Opening for writing fails with one of these where reading may work. */
const READ_ONLY = new Set(['EROFS', 'EACCES', 'EPERM'])

/** One pack's bytes on disk. Whoever uses it between turns holds it, so that it is not closed under his feet. */
export class PackFile {
  readonly #have = new Intervals()
  /** bytes of the map that have been read */
  #mapRead = 0
  #touched = -Infinity
  #holders = 0
  #closing = false

  private constructor(readonly path: string, readonly data: FileHandle, readonly map: FileHandle, readonly ino: number, readonly birthMs: number, readonly writable: boolean) {}

  /** @returns null if there is none */
  static async open(path: string): Promise<PackFile | null> {
    return PackFile.#open(path, O_RDWR).catch(error => {
      if (!READ_ONLY.has(error.code)) throw error
      return PackFile.#open(path, O_RDONLY)
    }).catch(error => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null
      throw error
    })
  }

  /** Its folder has to be there. */
  static create(path: string): Promise<PackFile> { return PackFile.#open(path, O_RDWR | O_CREAT) }

  static async #open(path: string, flags: number): Promise<PackFile> {
    const data = await open(path, flags | O_NOFOLLOW | O_NONBLOCK, 0o600)
    try {
      const [stat, map] = await Promise.all([data.stat(), open(path + MAP, flags | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0o600)])
      const file = new PackFile(path, data, map, stat.ino, stat.birthtimeMs, (flags & O_RDWR) !== 0)
      try {
        await file.refresh()
      } catch (error) {
        await map.close()
        throw error
      }
      return file
    } catch (error) {
      await data.close()
      throw error
    }
  }

  has(from: number, to: number): boolean { return this.#have.has(from, to) }
  holes(from: number, to: number): [number, number][] { return this.#have.holes(from, to) }

  /** Read what has been appended to the map. @returns false if the file is no more */
  async refresh(): Promise<boolean> {
    const [{ nlink }, { size }] = await Promise.all([this.data.stat(), this.map.stat()])
    if (nlink === 0) return false
    // Somebody cut it: what was believed is not to be believed any more.
    if (size < this.#mapRead) return false
    if (size - this.#mapRead < RECORD) return true
    const records = Buffer.alloc(Math.floor((size - this.#mapRead) / RECORD) * RECORD)
    const { bytesRead } = await this.map.read(records, 0, records.length, this.#mapRead)
    const whole = bytesRead - bytesRead % RECORD
    for (let at = 0; at < whole; at += RECORD) this.#believe(records, at)
    this.#mapRead += whole
    return true
  }

  /** Exactly these bytes. @throws errors of node:fs; ERANGE where the file ends early */
  async read(offset: number, into: Buffer): Promise<void> {
    for (let done = 0; done < into.length;) {
      const { bytesRead } = await this.data.read(into, done, into.length - done, offset + done)
      if (bytesRead === 0) throw Object.assign(new Error(`${this.path} ends early`), { code: 'ERANGE' })
      done += bytesRead
    }
  }

  /** @returns bytes that were not there before */
  async write(offset: number, chunks: readonly Buffer[]): Promise<number> {
    const end = chunks.reduce((end, { length }) => end + length, offset)
    let left = chunks
    for (let at = offset; at < end;) {
      const { bytesWritten } = await this.data.writev(left, at)
      at += bytesWritten
      if (at < end) left = behind(left, bytesWritten)
    }
    const holes = this.#have.holes(offset, end)
    if (holes.length === 0) return 0
    await this.#append(offset, end - offset)
    this.#have.add(offset, end)
    return holes.reduce((sum, [from, to]) => sum + to - from, 0)
  }

  /** The time of its last change is when it was last used: what eviction goes by. @returns is that news to others? */
  touch(now: number, everyMs: number): void {
    if (!this.writable || now - this.#touched < everyMs) return
    this.#touched = now
    const time = new Date()
    this.data.utimes(time, time).catch(() => {})
  }

  hold(): void { this.#holders++ }

  release(): void {
    if (--this.#holders === 0 && this.#closing) void this.#close()
  }

  get held(): boolean { return this.#holders > 0 }

  /** As soon as nobody holds it. */
  async close(): Promise<void> {
    this.#closing = true
    if (this.#holders === 0) await this.#close()
  }

  async #close(): Promise<void> {
    await Promise.all([this.data.close().catch(() => {}), this.map.close().catch(() => {})])
  }

  async #append(offset: number, length: number): Promise<void> {
    const record = encode(offset, length, this)
    const { bytesWritten } = await this.map.write(record, 0, RECORD)
    if (bytesWritten === RECORD) return
    // A part of a record would put all later ones out of step.
    const { size } = await this.map.stat()
    await this.map.truncate(size - size % RECORD)
    throw Object.assign(new Error(`${this.path}${MAP} cannot be appended to`), { code: 'ENOSPC' })
  }

  #believe(records: Buffer, at: number): void {
    const offset = records.readDoubleLE(at)
    const length = records.readDoubleLE(at + 8)
    if (records.readUInt32LE(at + 24) !== check(records, at, this.birthMs) || records.readDoubleLE(at + 16) !== this.ino) return
    if (offset >= 0 && length > 0 && Number.isSafeInteger(offset + length)) this.#have.add(offset, offset + length)
  }
}

/** Ranges of several files with one hop to the thread pool, each into its place. @returns per range 1 if it was read whole */
export async function readRanges(ranges: readonly { file: PackFile | null, offset: number, length: number, at: number }[], into: Buffer): Promise<Uint8Array> {
  const numbers = new Float64Array(ranges.length * 4)
  for (let i = 0; i < ranges.length; i++) {
    const { file, offset, length, at } = ranges[i]
    if (file !== null) numbers.set([file.data.fd, offset, length, at], i * 4)
  }
  const read = await native.readRanges(numbers, into)
  for (let i = 0; i < ranges.length; i++) if (ranges[i].file === null) read[i] = 0
  return read
}

/** What is left of chunks when so many bytes of them are done. */
function behind(chunks: readonly Buffer[], done: number): Buffer[] {
  const left: Buffer[] = []
  for (const chunk of chunks) {
    if (done < chunk.length) left.push(chunk.subarray(done))
    done = Math.max(0, done - chunk.length)
  }
  return left
}

function encode(offset: number, length: number, { ino, birthMs }: PackFile): Buffer {
  const record = Buffer.alloc(RECORD)
  record.writeDoubleLE(offset, 0)
  record.writeDoubleLE(length, 8)
  record.writeDoubleLE(ino, 16)
  record.writeUInt32LE(check(record, 0, birthMs), 24)
  return record
}

/** FNV-1a. Against records out of step, not against people. */
function check(records: Buffer, at: number, birthMs: number): number {
  let hash = Math.imul(0x811c9dc5 ^ Math.floor(birthMs * 1000 % 2 ** 31), 0x01000193)
  for (let i = at; i < at + 24; i++) hash = Math.imul(hash ^ records[i], 0x01000193)
  return hash >>> 0
}
