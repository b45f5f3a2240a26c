import { CorruptError } from '../errors.js'
import { native, type DecodedIndexFile } from '../native.js'
import { INDEX_RECORD_LENGTH, IndexBlobType } from './index-record.js'
import type { PackEntry } from './pack-header.js'

/** What an index file says, in a few buffers whatever its size. */
export interface IndexFile {
  /** 32 bytes of id each, in the order of the file; one id may occur twice */
  readonly packs: Buffer
  readonly packCount: number
  /** per pack: 1 if it is marked for deletion (rustic's packs_to_delete): to be used when no other copy is left */
  readonly toDelete: Uint8Array
  /** records (index-record.ts): trees, then data, each ascending by id; of one id, in the order of the file */
  readonly blobs: Buffer
  readonly blobCount: number
  /** the first so many blobs are trees */
  readonly treeCount: number
  /** entries left out because something in them cannot be */
  readonly skipped: number
}

/** One blob of `blobs` as an object: for tests and tools. */
export interface IndexBlob {
  readonly id: Buffer
  readonly pack: number
  readonly type: 'data' | 'tree'
  readonly offset: number
  readonly length: number
  readonly plainLength: number
}

/**
 * Decode the JSON of an index file: {"packs":[{"id","blobs":[{"id","type","offset","length","uncompressed_length"}]}]}.
 * Unknown fields are ignored ("supersedes" is history). An entry with an impossible value is left out alone and counted.
 * On the thread pool, by native/index_json.cc; `json` must not be written to until the promise settles. The result does not alias it.
 * Source: restic design.rst, "Indexing".
 * @throws CorruptError if it is not JSON of that shape
 */
export async function decodeIndexFile(name: string, json: Uint8Array): Promise<IndexFile> {
  return indexFileOf(name, await native.decodeIndexFile(json))
}

/** What native.decodeIndexFile has made of the JSON of an index file. @throws CorruptError */
export function indexFileOf(name: string, decoded: DecodedIndexFile | number): IndexFile {
  if (typeof decoded === 'number') throw new CorruptError(`index file ${name}`, `not the JSON of an index file at byte ${decoded}`)
  return { ...decoded, packCount: decoded.toDelete.length, blobCount: decoded.blobs.length / INDEX_RECORD_LENGTH }
}

/** In the order of the records. */
export function* indexBlobs(file: Pick<IndexFile, 'blobs'>): Generator<IndexBlob> {
  const { blobs } = file
  for (let at = 0; at < blobs.length; at += INDEX_RECORD_LENGTH) {
    yield {
      id: blobs.subarray(at, at + 32),
      pack: blobs.readUInt32LE(at + 32),
      type: blobs.readUInt32LE(at + 36) === IndexBlobType.tree ? 'tree' : 'data',
      length: blobs.readUInt32LE(at + 40),
      plainLength: blobs.readUInt32LE(at + 44),
      offset: blobs.readDoubleLE(at + 48),
    }
  }
}

/** What an index file says of one pack. */
export interface IndexedPack {
  /** 64 hex digits */
  readonly pack: string
  readonly entries: readonly PackEntry[]
}

/** The JSON of an index file. */
export function encodeIndexFile(packs: readonly IndexedPack[]): Buffer {
  return Buffer.from(JSON.stringify({
    packs: packs.map(({ pack, entries }) => ({
      id: pack,
      blobs: entries.map(({ id, type, offset, length, plainLength }) => ({
        id: id.toString('hex'), type, offset, length, uncompressed_length: plainLength > 0 ? plainLength : undefined,
      })),
    })),
  }))
}
