import { CorruptError } from '../errors.js'
import { JsonScanner } from './json-scanner.js'
import { BLOB_OVERHEAD, MAX_BLOB_LENGTH } from './limits.js'

/**
 * Blobs of an index file in compact form, for files hold 50,000 and repositories have thousands of files: no object, no string per blob.
 *
 *   record, 56 bytes, little-endian
 *     0 id, 32 bytes   32 u32 ordinal of its pack   36 u32 type (IndexBlobType)
 *    40 u32 length (with 32 of IV and MAC)   44 u32 plain length if compressed, else 0   48 f64 offset in the pack, a safe integer
 */
export const INDEX_RECORD_LENGTH = 56
export const IndexBlobType = { data: 0, tree: 1 } as const

export interface IndexFile {
  /** 32 bytes of id each, in the order of the file; one id may occur twice */
  readonly packs: Buffer
  readonly packCount: number
  /** per pack: 1 if it is marked for deletion (rustic's packs_to_delete): to be used when no other copy is left */
  readonly toDelete: Uint8Array
  /** records of INDEX_RECORD_LENGTH bytes, those of a pack together, in the order of the file */
  readonly blobs: Buffer
  readonly blobCount: number
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

// The shortest entries that are kept: {"id":"…64…","type":"data","offset":0,"length":32} and {"id":"…64…","blobs":[]}.
// They bound how many there can be in a file, and so what is allocated.
const MIN_BLOB_JSON = 110
const MIN_PACK_JSON = 72

/**
 * Decode the JSON of an index file: {"packs":[{"id","blobs":[{"id","type","offset","length","uncompressed_length"}]}]}.
 * Unknown fields are ignored ("supersedes" is history). An entry with an impossible value is left out alone and counted.
 * Pure; quicker than JSON.parse alone (50,000 blobs in some 55 ms on a busy core) and without its garbage, for repositories have millions. Source: restic design.rst, "Indexing".
 * @throws CorruptError if it is not JSON of that shape
 */
export function decodeIndexFile(name: string, json: Uint8Array): IndexFile {
  try {
    return new IndexDecoder(json).decode()
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
    throw new CorruptError(`index file ${name}`, cause.message)
  }
}

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

class IndexDecoder {
  readonly #scanner: JsonScanner
  readonly #blobs: Buffer
  readonly #view: DataView
  readonly #packs: Buffer
  readonly #toDelete: Uint8Array
  #blobCount = 0
  #packCount = 0
  #skipped = 0

  constructor(json: Uint8Array) {
    this.#scanner = new JsonScanner(json)
    this.#blobs = Buffer.alloc((Math.floor(json.length / MIN_BLOB_JSON) + 1) * INDEX_RECORD_LENGTH)
    this.#view = new DataView(this.#blobs.buffer, this.#blobs.byteOffset, this.#blobs.byteLength)
    const packs = Math.floor(json.length / MIN_PACK_JSON) + 1
    this.#packs = Buffer.alloc(packs * 32)
    this.#toDelete = new Uint8Array(packs)
  }

  decode(): IndexFile {
    const scanner = this.#scanner
    // Until 2015 an index file was the bare list of packs.
    if (scanner.peek() === OPEN_ARRAY) this.#packList(0)
    else {
      for (let key = scanner.openObject(); key; key = scanner.nextKey()) {
        if (scanner.stringIs('packs')) this.#packList(0)
        else if (scanner.stringIs('packs_to_delete')) this.#packList(1)
        else scanner.skipValue()
      }
    }
    scanner.end()
    return {
      packs: this.#packs.subarray(0, this.#packCount * 32),
      packCount: this.#packCount,
      toDelete: this.#toDelete.subarray(0, this.#packCount),
      blobs: this.#blobs.subarray(0, this.#blobCount * INDEX_RECORD_LENGTH),
      blobCount: this.#blobCount,
      skipped: this.#skipped,
    }
  }

  #packList(toDelete: 0 | 1): void {
    const scanner = this.#scanner
    if (scanner.takeNull()) return
    for (let more = scanner.openArray(); more; more = scanner.nextItem()) {
      if (scanner.peek() === OPEN_OBJECT) this.#pack(toDelete)
      else this.#skip()
    }
  }

  #pack(toDelete: 0 | 1): void {
    const scanner = this.#scanner
    const firstBlob = this.#blobCount
    let valid = false
    for (let key = scanner.openObject(); key; key = scanner.nextKey()) {
      // The place is claimed by counting on at the end: keys may come in any order.
      if (scanner.stringIs('id')) valid = scanner.takeHexId(this.#packs, this.#packCount * 32)
      else if (scanner.stringIs('blobs') && scanner.peek() === OPEN_ARRAY) this.#blobList()
      else scanner.skipValue()
    }
    if (!valid) {
      this.#skipped += 1 + this.#blobCount - firstBlob
      this.#blobCount = firstBlob
      return
    }
    this.#toDelete[this.#packCount++] = toDelete
  }

  #blobList(): void {
    const scanner = this.#scanner
    for (let more = scanner.openArray(); more; more = scanner.nextItem()) {
      if (scanner.peek() === OPEN_OBJECT) this.#blob()
      else this.#skip()
    }
  }

  #blob(): void {
    const scanner = this.#scanner
    const at = this.#blobCount * INDEX_RECORD_LENGTH
    let valid = false
    let type = -1
    let offset = -1
    let length = -1
    let plainLength = 0
    for (let key = scanner.openObject(); key; key = scanner.nextKey()) {
      if (scanner.stringIs('id')) valid = scanner.takeHexId(this.#blobs, at)
      else if (scanner.stringIs('type')) type = scanner.takeString() ? scanner.stringIs('data') ? IndexBlobType.data : scanner.stringIs('tree') ? IndexBlobType.tree : -1 : -1
      else if (scanner.stringIs('offset')) offset = scanner.takeCount()
      else if (scanner.stringIs('length')) length = scanner.takeCount()
      else if (scanner.stringIs('uncompressed_length')) plainLength = scanner.takeCount()
      else scanner.skipValue()
    }
    if (!valid || type < 0 || offset < 0 || length < BLOB_OVERHEAD || length > MAX_BLOB_LENGTH || plainLength < 0 || plainLength > MAX_BLOB_LENGTH
      || !Number.isSafeInteger(offset + length)) {
      this.#skipped++
      return
    }
    const view = this.#view
    view.setUint32(at + 32, this.#packCount, true)
    view.setUint32(at + 36, type, true)
    view.setUint32(at + 40, length, true)
    view.setUint32(at + 44, plainLength, true)
    view.setFloat64(at + 48, offset, true)
    this.#blobCount++
  }

  #skip(): void {
    this.#scanner.skipValue()
    this.#skipped++
  }
}

const OPEN_ARRAY = 0x5b
const OPEN_OBJECT = 0x7b
