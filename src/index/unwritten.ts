import type { IndexFile } from '../format/index-file.js'
import { INDEX_RECORD_LENGTH } from '../format/index-record.js'
import { firstNot } from '../util/binary-search.js'
import type { BlobLocation } from './index.js'

/** Above the numbers which SQLite gives to packs, and below the largest safe integer. */
const FIRST_PACK = 2 ** 48

interface Unwritten {
  readonly blobs: Buffer
  readonly toDelete: Uint8Array
  readonly treeCount: number
  /** first four bytes of each record's id, big-endian: ascending from 0 to treeCount, and from there on */
  readonly prefixes: Uint32Array
  /** number of its first pack */
  readonly firstPack: number
}

/**
 * Blobs of index files that are decoded and not yet in SQLite, which takes ten times as long: a mount that starts with an empty cache directory does not wait for it.
 * Packs have numbers of their own here; they stay valid, since whoever located a blob may read it later.
 */
export class UnwrittenBlobs {
  readonly #files = new Map<IndexFile, Unwritten>()
  /** ids of the packs of every file there ever was, side by side, with the number of its first pack; ascending */
  readonly #packs: { readonly first: number, readonly names: Buffer }[] = []
  #nextPack = FIRST_PACK

  add(file: IndexFile): void {
    const { blobs, blobCount, packs, packCount, toDelete, treeCount } = file
    const prefixes = new Uint32Array(blobCount)
    const view = new DataView(blobs.buffer, blobs.byteOffset, blobs.byteLength)
    for (let i = 0; i < blobCount; i++) prefixes[i] = view.getUint32(i * INDEX_RECORD_LENGTH)
    this.#files.set(file, { blobs, toDelete, treeCount, prefixes, firstPack: this.#nextPack })
    this.#packs.push({ first: this.#nextPack, names: Buffer.from(packs) })
    this.#nextPack += packCount
  }

  remove(file: IndexFile): void { this.#files.delete(file) }

  /** All copies, those in packs marked for deletion last. */
  locate(id: Uint8Array): BlobLocation[] {
    const found: BlobLocation[] = []
    if (this.#files.size === 0) return found
    const prefix = (id[0] << 24 | id[1] << 16 | id[2] << 8 | id[3]) >>> 0
    let marked: BlobLocation[] | null = null
    for (const file of this.#files.values()) {
      const { prefixes, treeCount } = file
      for (let group = 0; group < 2; group++) {
        const end = group === 0 ? treeCount : prefixes.length
        for (let i = lowerBound(prefixes, group === 0 ? 0 : treeCount, end, prefix); i < end && prefixes[i] === prefix; i++) {
          const at = i * INDEX_RECORD_LENGTH
          if (file.blobs.compare(id, 0, 32, at, at + 32) !== 0) continue
          const ordinal = file.blobs.readUInt32LE(at + 32)
          const location = {
            pack: file.firstPack + ordinal, offset: file.blobs.readDoubleLE(at + 48), length: file.blobs.readUInt32LE(at + 40), plainLength: file.blobs.readUInt32LE(at + 44),
          }
          if (file.toDelete[ordinal] === 0) found.push(location)
          else (marked ??= []).push(location)
        }
      }
    }
    return marked === null ? found : [...found, ...marked]
  }

  /** @returns null if the number is none of these */
  packName(pack: number): string | null {
    if (pack < FIRST_PACK) return null
    const { first, names } = this.#packs[firstNot(this.#packs.length, i => this.#packs[i].first <= pack) - 1]
    const at = (pack - first) * 32
    return names.toString('hex', at, at + 32)
  }

  /** @returns null if the number is none of these, 0 if the pack has been written meanwhile, or holds no trees */
  treesEnd(pack: number): number | null {
    if (pack < FIRST_PACK) return null
    let end = 0
    for (const { blobs, toDelete, treeCount, firstPack } of this.#files.values()) {
      if (pack < firstPack || pack >= firstPack + toDelete.length) continue
      for (let at = 0; at < treeCount * INDEX_RECORD_LENGTH; at += INDEX_RECORD_LENGTH) {
        if (blobs.readUInt32LE(at + 32) === pack - firstPack) end = Math.max(end, blobs.readDoubleLE(at + 48) + blobs.readUInt32LE(at + 40))
      }
    }
    return end
  }
}

/** The first of prefixes[from..to) that is not below `prefix`. */
function lowerBound(prefixes: Uint32Array, from: number, to: number, prefix: number): number {
  while (from < to) {
    const middle = (from + to) >>> 1
    if (prefixes[middle] < prefix) from = middle + 1
    else to = middle
  }
  return from
}
