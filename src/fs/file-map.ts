import { firstNot } from '../util/binary-search.js'

/** Bytes in the chunk restic stores for a run of zeros (its smallest chunk size). */
export const ZERO_CHUNK_LENGTH = 512 * 1024
/** SHA-256 of so many zeros; restic internal/archiver and chunker agree on it. */
export const ZERO_CHUNK_ID = Buffer.from('07854d2fef297a06ba81685e660c332de36d5d18d546927d30daad6d7fda1541', 'hex')

const ID_LENGTH = 32
/** chunks whose lengths are looked up in one turn of the event loop, a few milliseconds of work */
const SLICE = 1024

/** Where the chunks of one file lie: which bytes of it each blob holds. Chunks of zeros are holes. */
export class FileMap {
  /** @param ends offset behind each chunk, ascending */
  private constructor(readonly ids: Buffer, readonly ends: Float64Array) {}

  get count(): number { return this.ends.length }
  /** bytes, from the blobs themselves; may differ from what the node says */
  get size(): number { return this.ends.length === 0 ? 0 : this.ends[this.ends.length - 1] }
  id(chunk: number): Buffer { return this.ids.subarray(chunk * ID_LENGTH, (chunk + 1) * ID_LENGTH) }
  start(chunk: number): number { return chunk === 0 ? 0 : this.ends[chunk - 1] }
  end(chunk: number): number { return this.ends[chunk] }
  isHole(chunk: number): boolean { return isZeroChunk(this.ids, chunk) }

  /** the chunk that holds the byte at `offset`; count if that is behind the end */
  chunkAt(offset: number): number { return firstNot(this.ends.length, chunk => this.ends[chunk] <= offset) }

  /**
   * lseek(2) SEEK_DATA or SEEK_HOLE. @returns -1 where it would be ENXIO
   */
  seek(offset: number, what: 'data' | 'hole'): number {
    if (offset < 0 || offset >= this.size) return -1
    let chunk = this.chunkAt(offset)
    while (chunk < this.count && this.isHole(chunk) !== (what === 'hole')) chunk++
    if (chunk === this.count) return what === 'hole' ? this.size : -1
    return Math.max(offset, this.start(chunk))
  }

  /**
   * @param length plain length of a blob, -1 if unknown
   * @returns null if a blob is unknown. Synchronous where the file is small; a long one is looked up in slices, so that the event loop never waits.
   */
  static build(ids: Buffer, length: (id: Buffer) => number): FileMap | null | Promise<FileMap | null> {
    const count = ids.length / ID_LENGTH
    const ends = new Float64Array(count)
    const fill = (from: number, to: number): boolean => {
      let end = from === 0 ? 0 : ends[from - 1]
      for (let chunk = from; chunk < to; chunk++) {
        const bytes = isZeroChunk(ids, chunk) ? ZERO_CHUNK_LENGTH : length(ids.subarray(chunk * ID_LENGTH, (chunk + 1) * ID_LENGTH))
        if (bytes < 0) return false
        ends[chunk] = end += bytes
      }
      return true
    }
    if (count <= SLICE) return fill(0, count) ? new FileMap(ids, ends) : null
    return (async () => {
      for (let from = 0; from < count; from += SLICE) {
        if (!fill(from, Math.min(count, from + SLICE))) return null
        await new Promise(resolve => setImmediate(resolve))
      }
      return new FileMap(ids, ends)
    })()
  }
}

function isZeroChunk(ids: Buffer, chunk: number): boolean {
  return ZERO_CHUNK_ID.compare(ids, chunk * ID_LENGTH, (chunk + 1) * ID_LENGTH) === 0
}
