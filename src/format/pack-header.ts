import { CorruptError } from '../errors.js'
import { BLOB_OVERHEAD, MAX_BLOB_LENGTH } from './limits.js'

/** A blob as the header of its pack lists it. */
export interface PackEntry {
  /** 32 bytes */
  readonly id: Buffer
  readonly type: 'data' | 'tree'
  /** bytes from the start of the pack */
  readonly offset: number
  /** bytes in the pack, with 32 of IV and MAC */
  readonly length: number
  /** bytes of plaintext if compressed, else 0 (then it is length - 32) */
  readonly plainLength: number
}

/** bytes of the field at the very end: length of the encrypted header, u32le */
export const HEADER_LENGTH_SIZE = 4
const PLAIN_ENTRY_LENGTH = 1 + 4 + 32
const COMPRESSED_ENTRY_LENGTH = PLAIN_ENTRY_LENGTH + 4
/** of an encrypted header; restic's own limit */
export const MAX_PACK_HEADER_LENGTH = 16 << 20
// One request more costs more than some bytes more. Packs of 16 MiB mostly hold blobs of about 1 MiB: 15 entries, as in restic.
const EAGER_ENTRIES = 15
/** bytes to read from the end of a pack, in the hope that they hold the whole header */
export const EAGER_TAIL_LENGTH = EAGER_ENTRIES * COMPRESSED_ENTRY_LENGTH + BLOB_OVERHEAD + HEADER_LENGTH_SIZE
/** a pack with one empty blob */
export const MIN_PACK_LENGTH = BLOB_OVERHEAD + PLAIN_ENTRY_LENGTH + BLOB_OVERHEAD + HEADER_LENGTH_SIZE

/**
 * Bytes of the encrypted header, from the end of a pack.
 * @param tail the pack's last bytes, 4 at least  @param packLength bytes of the whole pack
 * @throws CorruptError if no header of that length can be in that pack
 */
export function packHeaderLength(pack: string, tail: Uint8Array, packLength: number): number {
  const file = `pack ${pack}`
  if (packLength < MIN_PACK_LENGTH || tail.length < HEADER_LENGTH_SIZE) throw new CorruptError(file, `${packLength} bytes are too few for a pack`)
  const length = new DataView(tail.buffer, tail.byteOffset, tail.byteLength).getUint32(tail.length - HEADER_LENGTH_SIZE, true)
  if (length < BLOB_OVERHEAD + PLAIN_ENTRY_LENGTH) throw new CorruptError(file, `header of ${length} bytes is too short`)
  if (length > packLength - HEADER_LENGTH_SIZE) throw new CorruptError(file, `header of ${length} bytes is longer than the pack`)
  if (length > MAX_PACK_HEADER_LENGTH) throw new CorruptError(file, `header of ${length} bytes is too long`)
  return length
}

/**
 * Decode a decrypted pack header, a run of entries in pack order:
 *   type u8 | length u32le | plainLength u32le (types 2, 3 only) | id, 32 bytes
 * `length` counts ciphertext with its 32 bytes of IV and MAC. Offsets are not stored; they are the running sum.
 * The result does not alias `header`. Source: restic design.rst, "Pack Format".
 * @param blobsLength bytes of the pack before its header: what all blobs together must not exceed
 * @throws CorruptError (ERR_CORRUPT) on an unknown type, an entry cut short, or blobs that do not fit into the pack
 */
export function decodePackHeader(pack: string, header: Uint8Array, blobsLength = Number.MAX_SAFE_INTEGER): PackEntry[] {
  const file = `pack ${pack}`
  const bytes = Buffer.from(header)
  const entries: PackEntry[] = []
  let offset = 0
  for (let at = 0; at < bytes.length;) {
    const kind = bytes[at]
    if (kind > 3) throw new CorruptError(file, `blob type ${kind} in the header`)
    const compressed = kind >= 2
    const entryLength = compressed ? COMPRESSED_ENTRY_LENGTH : PLAIN_ENTRY_LENGTH
    if (bytes.length - at < entryLength) throw new CorruptError(file, `header entry needs ${entryLength} bytes, got ${bytes.length - at}`)
    const length = bytes.readUInt32LE(at + 1)
    const plainLength = compressed ? bytes.readUInt32LE(at + 5) : 0
    if (length < BLOB_OVERHEAD) throw new CorruptError(file, `blob of ${length} bytes`)
    if (plainLength > MAX_BLOB_LENGTH || length > MAX_BLOB_LENGTH) throw new CorruptError(file, `blob of ${Math.max(length, plainLength)} bytes`)
    if (offset + length > blobsLength) throw new CorruptError(file, `blobs end behind byte ${blobsLength}`)
    entries.push({ id: bytes.subarray(at + entryLength - 32, at + entryLength), type: kind & 1 ? 'tree' : 'data', offset, length, plainLength })
    offset += length
    at += entryLength
  }
  return entries
}

/** bytes that one blob takes in a header */
export function packEntryLength(plainLength: number): number { return plainLength > 0 ? COMPRESSED_ENTRY_LENGTH : PLAIN_ENTRY_LENGTH }

/** The inverse of decodePackHeader, to be encrypted. @param entries in pack order, without gaps */
export function encodePackHeader(entries: readonly PackEntry[]): Buffer {
  const header = Buffer.allocUnsafe(entries.reduce((sum, { plainLength }) => sum + packEntryLength(plainLength), 0))
  let at = 0
  for (const { id, type, length, plainLength } of entries) {
    header[at] = (type === 'tree' ? 1 : 0) + (plainLength > 0 ? 2 : 0)
    at = header.writeUInt32LE(length, at + 1)
    if (plainLength > 0) at = header.writeUInt32LE(plainLength, at)
    at += id.copy(header, at)
  }
  return header
}
