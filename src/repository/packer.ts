import { randomInt } from 'node:crypto'
import type { IndexedPack } from '../format/index-file.js'
import type { Pieces } from '../native.js'
import { PACK_LENGTH, PackBuffer } from './pack-buffer.js'
import type { WriteAccess } from './save-unpacked.js'

/**
 * Blobs go at random into one of so many open packs: from the lengths of neighbours in one pack, who can watch what is stored could learn where
 * files are cut, and so which files are there (restic 0.18's protection, after daemonology.net/blog/chunking-attacks.pdf).
 */
const OPEN_PACKS = 2

export interface PackerOptions {
  readonly access: WriteAccess
  /** packs on their way into the repository at once */
  readonly uploads: number
  /** a pack is stored */
  readonly stored: (pack: IndexedPack) => Promise<void> | void
  readonly signal?: AbortSignal
}

/** Puts encoded blobs into packs, and the packs into the repository. Memory: the open packs of either type, and those on their way. */
export class Packer {
  readonly #options: PackerOptions
  readonly #open: Record<'data' | 'tree', (PackBuffer | null)[]> = { data: new Array(OPEN_PACKS).fill(null), tree: new Array(OPEN_PACKS).fill(null) }
  readonly #memory: Buffer[] = []
  readonly #uploads = new Set<Promise<void>>()
  #failure: { error: unknown } | null = null

  constructor(options: PackerOptions) { this.#options = options }

  /** Take encoded pieces. Resolves when more may come. @param stored bytes of each @throws what storing an earlier pack has failed with */
  async add(type: 'data' | 'tree', pieces: Pieces, indexes: Uint32Array, stored: Float64Array, ids: Buffer, lengths: Float64Array): Promise<void> {
    this.#mustGoOn()
    for (let i = 0; i < indexes.length; i++) {
      const index = indexes[i]
      // A copy: the ids of a directory's files would be kept alive by the one of them that is in the last index file.
      const id = Buffer.from(ids.subarray(index * 32, index * 32 + 32))
      const oversized = stored[i] >= PACK_LENGTH
      const slot = oversized ? -1 : randomInt(OPEN_PACKS)
      const pack = oversized ? new PackBuffer(type, undefined) : this.#open[type][slot] ??= new PackBuffer(type, this.#memory.pop())
      pack.add(pieces, index, id, stored[i], lengths[index])
      if (!pack.full) continue
      if (!oversized) this.#open[type][slot] = null
      this.#store(pack)
    }
    while (this.#uploads.size >= this.#options.uploads) await Promise.race(this.#uploads)
    this.#mustGoOn()
  }

  /** Store what is open; resolves when all is stored. */
  async flush(): Promise<void> {
    for (const packs of Object.values(this.#open)) {
      const left = packs.filter(pack => pack !== null)
      packs.fill(null)
      // Small ones as one: two packs of one blob each would tell the lengths of two chunks of a file.
      if (left.length === 2 && left[0].length + left[1].length < PACK_LENGTH) left[0].merge(left.pop()!)
      for (const pack of left) this.#store(pack)
    }
    await this.settle()
    this.#mustGoOn()
  }

  /** Resolves when nothing is under way. Never rejects. */
  async settle(): Promise<void> {
    while (this.#uploads.size > 0) await Promise.race(this.#uploads)
  }

  #store(pack: PackBuffer): void {
    const upload: Promise<void> = this.#upload(pack).catch(error => { this.#failure ??= { error } }).finally(() => {
      this.#uploads.delete(upload)
      if (pack.memory !== null) this.#memory.push(pack.memory)
    })
    this.#uploads.add(upload)
  }

  async #upload(pack: PackBuffer): Promise<void> {
    const { access, stored, signal } = this.#options
    const { name, bytes } = await pack.seal(access.keys)
    await access.backend.save({ type: 'data', name }, bytes, { signal })
    await stored({ pack: name, entries: pack.entries })
  }

  #mustGoOn(): void {
    if (this.#failure) throw this.#failure.error
  }
}
