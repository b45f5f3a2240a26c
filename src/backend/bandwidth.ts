import { CorruptError } from '../errors.js'
import { abortedError, throwIfAborted } from '../util/abort.js'
import type { FileInfo, FileType, Handle, LocationHealth, ReadBackend, ReadOptions, Replicas } from './backend.js'
import { fileName } from './file-name.js'

/** Of a quiet line, that much may be used at once: restic's limiter allows a second, too. */
const BURST_SECONDS = 1
/** Not worth a request of their own, however slow the line is. */
const MIN_PIECE = 64 << 10
/** About what one file takes in a list. */
const LIST_ENTRY_BYTES = 100

/**
 * Takes in no more than so many bytes a second, on average over a second or two. A range that is too large for that is read in pieces, one after the
 * other, each when its share of the line has come: so it works with every backend, and the line is not filled by one request for minutes.
 */
export class BandwidthLimit implements ReadBackend {
  readonly #rate: number
  readonly #piece: number
  /** when all that was taken in so far has had its time; performance.now() */
  #paidUntil = -Infinity

  constructor(readonly inner: ReadBackend, kibPerSecond: number) {
    this.#rate = kibPerSecond * 1024
    this.#piece = Math.max(MIN_PIECE, Math.floor(this.#rate * BURST_SECONDS))
  }

  get location(): string { return this.inner.location }
  get connections(): number { return this.inner.connections }
  get sources(): number { return this.inner.sources ?? 1 }
  get replicas(): Replicas | undefined { return this.inner.replicas }
  health(): LocationHealth[] { return this.inner.health?.() ?? [] }

  async list(type: Exclude<FileType, 'config'>, options: ReadOptions = {}): Promise<FileInfo[]> {
    await this.#share(0, options.signal)
    const files = await this.inner.list(type, options)
    this.#owe(files.length * LIST_ENTRY_BYTES)
    return files
  }

  async read(handle: Handle, offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    if (length <= this.#piece) {
      await this.#share(length, options.signal)
      return this.inner.read(handle, offset, length, options)
    }
    const { into, ...rest } = options
    const bytes = into !== undefined && into.length >= length ? into.subarray(0, length) : Buffer.allocUnsafeSlow(length)
    for (let done = 0; done < length;) {
      const part = bytes.subarray(done, done + this.#piece)
      await this.#share(part.length, options.signal)
      // Of several sources, one that was overtaken may write on into the memory it was offered.
      const got = await this.inner.read(handle, offset + done, part.length, this.sources > 1 ? rest : { ...rest, into: part })
      if (got.buffer !== part.buffer || got.byteOffset !== part.byteOffset) got.copy(part)
      done += part.length
    }
    return bytes
  }

  async readAll(handle: Handle, maxLength: number, options: ReadOptions = {}): Promise<Buffer> {
    const { size } = await this.stat(handle, options)
    if (size > maxLength) throw new CorruptError(fileName(handle), `${size} bytes are too many, ${maxLength} at most`)
    if (size > this.#piece) return this.read(handle, 0, size, options)
    await this.#share(size, options.signal)
    return this.inner.readAll(handle, maxLength, options)
  }

  async stat(handle: Handle, options: ReadOptions = {}): Promise<FileInfo> {
    throwIfAborted(options.signal)
    return this.inner.stat(handle, options)
  }

  close(): Promise<void> { return this.inner.close() }

  /** Wait until that many bytes may come. */
  async #share(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal)
    this.#owe(bytes)
    const wait = this.#paidUntil - BURST_SECONDS * 1000 - performance.now()
    if (wait > 0) await sleep(wait, signal)
  }

  #owe(bytes: number): void {
    this.#paidUntil = Math.max(this.#paidUntil, performance.now()) + bytes / this.#rate * 1000
  }
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      clearTimeout(timer)
      reject(abortedError(signal))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', giveUp)
      resolve()
    }, ms)
    signal?.addEventListener('abort', giveUp, { once: true })
  })
}
