import type { IndexedPack } from '../format/index-file.js'
import type { LocalIndex } from '../index/index.js'
import type { Pieces } from '../native.js'
import { idKey } from '../util/id-key.js'
import { IndexWriter } from './index-writer.js'
import { Packer, type EncodedPiece } from './packer.js'
import type { WriteAccess } from './save-unpacked.js'

export interface BlobSaverOptions {
  readonly access: WriteAccess
  readonly index: Pick<LocalIndex, 'holds' | 'addIndexFile'>
  /** level of zstd for contents; null: none */
  readonly dataLevel: number | null
  /** decode what was encoded before it is stored (default true) */
  readonly verify?: boolean
  readonly uploads: number
  /** encode, and store nothing */
  readonly dryRun?: boolean
  readonly signal?: AbortSignal
}

/** What was new of some pieces. Bytes. */
export interface Added { readonly blobs: number, readonly length: number, readonly stored: number }

const NOTHING: Added = { blobs: 0, length: 0, stored: 0 }

/** Stores blobs that the repository does not have yet: packs, then the index files that list them. */
export class BlobSaver {
  readonly #options: BlobSaverOptions
  readonly #packer: Packer
  readonly #indexWriter: IndexWriter
  /** of this run, by type: in open packs and on their way, which no index knows yet */
  readonly #fresh = { data: new Set<string>(), tree: new Set<string>() }

  constructor(options: BlobSaverOptions) {
    this.#options = options
    this.#indexWriter = new IndexWriter(options.access, (name, json, packs) => this.#indexed(name, json, packs))
    this.#packer = new Packer({ access: options.access, uploads: options.uploads, stored: pack => this.#indexWriter.add(pack), signal: options.signal })
  }

  /** Does the repository have this blob, or will it? */
  has(type: 'data' | 'tree', id: Uint8Array): boolean {
    return this.#fresh[type].has(idKey(id)) || this.#options.index.holds(type, id)
  }

  /** Store what is new of these pieces, and free them. Resolves when they are in a pack, which need not be in the repository yet. */
  async save(type: 'data' | 'tree', pieces: Pieces): Promise<Added> {
    try {
      const { ids } = pieces
      const fresh: number[] = []
      for (let i = 0; i < pieces.count; i++) {
        const id = ids.subarray(i * 32, i * 32 + 32)
        if (this.has(type, id)) continue
        this.#fresh[type].add(idKey(id))
        fresh.push(i)
      }
      return fresh.length === 0 ? NOTHING : await this.#save(type, pieces, Uint32Array.from(fresh), ids)
    } finally {
      pieces.free()
    }
  }

  /** All packs and index files are in the repository. */
  async flush(): Promise<void> {
    if (this.#options.dryRun) return
    await this.#packer.flush()
    await this.#indexWriter.flush()
  }

  /** After a failure: nothing is under way any more. */
  settle(): Promise<void> { return this.#packer.settle() }

  /** From now on the index knows them. One that takes nothing more costs memory, no more. */
  async #indexed(name: string, json: Buffer, packs: readonly IndexedPack[]): Promise<void> {
    try {
      await this.#options.index.addIndexFile(name, json)
    } catch {
      return
    }
    for (const { entries } of packs) for (const { type, id } of entries) this.#fresh[type].delete(idKey(id))
  }

  async #save(type: 'data' | 'tree', pieces: Pieces, indexes: Uint32Array, ids: Buffer): Promise<Added> {
    const { access, dataLevel, verify = true, dryRun } = this.#options
    const level = access.version < 2 ? null : type === 'tree' ? access.level : dataLevel
    const { lengths } = pieces
    const stored = await pieces.encode(access.keys, indexes, level, verify)
    const encoded: EncodedPiece[] = [...indexes].map((index, i) => ({
      // A copy: one of them in an index file would keep the ids of a whole directory in memory.
      index, id: Buffer.from(ids.subarray(index * 32, index * 32 + 32)), length: stored[i], plainLength: level === null ? 0 : lengths[index],
    }))
    if (!dryRun) await this.#packer.add(type, pieces, encoded)
    return { blobs: encoded.length, length: encoded.reduce((sum, { index }) => sum + lengths[index], 0), stored: encoded.reduce((sum, { length }) => sum + length, 0) }
  }
}
