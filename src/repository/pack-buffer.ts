import { encodePackHeader, HEADER_LENGTH_SIZE, MAX_PACK_HEADER_LENGTH, packEntryLength, type PackEntry } from '../format/pack-header.js'
import { BLOB_OVERHEAD } from '../format/limits.js'
import { native, type Pieces } from '../native.js'

/** A pack is closed when it has grown to this, as restic's. */
export const PACK_LENGTH = 16 << 20
/** The longest chunk, its frame, and the header of a pack of small blobs: then one piece of memory serves for all packs, and what is not touched costs nothing. */
const CAPACITY = PACK_LENGTH + (10 << 20)

/** A pack that is being filled, in memory. */
export class PackBuffer {
  #bytes: Buffer
  #length = 0
  #headerLength = BLOB_OVERHEAD
  readonly entries: PackEntry[] = []

  constructor(readonly type: 'data' | 'tree', bytes: Buffer | undefined) { this.#bytes = bytes ?? Buffer.allocUnsafeSlow(CAPACITY) }

  get length(): number { return this.#length }
  get full(): boolean { return this.#length >= PACK_LENGTH || this.#headerLength > MAX_PACK_HEADER_LENGTH - 100 }
  /** The memory, to be used again once the pack is stored; null if it is not worth keeping. */
  get memory(): Buffer | null { return this.#bytes.length === CAPACITY ? this.#bytes : null }

  /** Copy an encoded piece in. @param stored bytes it takes @param plainLength of its plaintext */
  add(pieces: Pieces, index: number, id: Buffer, stored: number, plainLength: number): void {
    this.#makeRoom(stored)
    const compressed = pieces.copy(index, this.#bytes, this.#length)
    this.#note({ id, type: this.type, offset: this.#length, length: stored, plainLength: compressed ? plainLength : 0 })
  }

  /** Copy all of another one in. */
  merge(other: PackBuffer): void {
    this.#makeRoom(other.length)
    other.#bytes.copy(this.#bytes, this.#length, 0, other.length)
    for (const { id, type, length, plainLength } of other.entries) this.#note({ id, type, offset: this.#length, length, plainLength })
  }

  /** Close it with its header. @returns name and bytes, which stay valid until the memory is used again */
  async seal(keys: Uint8Array): Promise<{ name: string, bytes: Buffer }> {
    const header = await native.encryptFile(keys, encodePackHeader(this.entries), null)
    this.#makeRoom(header.length + HEADER_LENGTH_SIZE)
    header.copy(this.#bytes, this.#length)
    this.#bytes.writeUInt32LE(header.length, this.#length + header.length)
    const bytes = this.#bytes.subarray(0, this.#length + header.length + HEADER_LENGTH_SIZE)
    return { name: (await native.sha256(bytes)).toString('hex'), bytes }
  }

  #note(entry: PackEntry): void {
    this.entries.push(entry)
    this.#length += entry.length
    this.#headerLength += packEntryLength(entry.plainLength)
  }

  #makeRoom(length: number): void {
    if (this.#length + length <= this.#bytes.length) return
    const larger = Buffer.allocUnsafeSlow(this.#length + length + (1 << 20))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }
}
