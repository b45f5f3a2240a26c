import { randomInt } from 'node:crypto'
import type { IndexedPack } from '../format/index-file.js'
import type { Pieces } from '../native.js'
import { OpenPack, PACK_LENGTH } from './open-pack.js'
import type { WriteAccess } from './save-unpacked.js'

/**
 * Blobs go at random into one of so many open packs: from the lengths of neighbours in one pack, who can watch what is stored could learn where
 * files are cut, and so which files are there (restic 0.18's protection, after daemonology.net/blog/chunking-attacks.pdf).
 */
const OPEN_PACKS = 2

export interface PackerOptions {
  readonly access: WriteAccess
  /** packs on their way into the repository at once: each takes 16 MiB of memory */
  readonly uploads: number
  /** a pack is stored */
  readonly stored: (pack: IndexedPack) => Promise<void> | void
  readonly signal?: AbortSignal
}

/** An encoded piece that is to be stored. */
export interface EncodedPiece {
  /** among the pieces */
  readonly index: number
  readonly id: Buffer
  /** bytes it takes in a pack */
  readonly length: number
  /** 0 if it is not compressed */
  readonly plainLength: number
}

/** Puts encoded blobs into packs, and the packs into the repository. */
export class Packer {
  readonly #options: PackerOptions
  readonly #open: Record<'data' | 'tree', (OpenPack | null)[]> = { data: new Array(OPEN_PACKS).fill(null), tree: new Array(OPEN_PACKS).fill(null) }
  readonly #memory: Buffer[] = []
  readonly #uploads = new Set<Promise<void>>()
  #failure: { error: unknown } | null = null

  constructor(options: PackerOptions) { this.#options = options }

  /** Take encoded pieces. Resolves when they are written, and more may come. @throws what storing an earlier pack has failed with */
  async add(type: 'data' | 'tree', pieces: Pieces, encoded: readonly EncodedPiece[]): Promise<void> {
    this.#mustGoOn()
    // All in one turn, so that nobody else finds a pack in between that is full, or about to be stored.
    const packs: OpenPack[] = []
    const places = new Float64Array(encoded.length * 3)
    const filled: OpenPack[] = []
    for (const [i, { index, id, length, plainLength }] of encoded.entries()) {
      const slot = length >= PACK_LENGTH ? -1 : randomInt(OPEN_PACKS)
      const pack = slot < 0 ? new OpenPack(type) : this.#open[type][slot] ??= new OpenPack(type)
      const at = pack.place(id, length, plainLength)
      places.set([index, pack.fd, at], i * 3)
      packs.push(pack)
      if (!pack.full) continue
      filled.push(pack)
      if (slot >= 0) this.#open[type][slot] = null
    }
    const write = pieces.write(places)
    for (const pack of new Set(packs)) pack.writing(write)
    for (const pack of filled) this.#store(pack)
    await write.catch(() => {}) // the pack tells of it
    while (this.#uploads.size >= this.#options.uploads) await Promise.race(this.#uploads)
    this.#mustGoOn()
  }

  /** Store what is open; resolves when all is stored. */
  async flush(): Promise<void> {
    for (const packs of Object.values(this.#open)) {
      const left = packs.filter(pack => pack !== null)
      packs.fill(null)
      // Small ones as one: two packs of one blob each would tell the lengths of two chunks of a file.
      if (left.length === 2 && left[0].length + left[1].length < PACK_LENGTH) await left[0].merge(left.pop()!)
      for (const pack of left) this.#store(pack)
    }
    while (this.#uploads.size > 0) await Promise.race(this.#uploads)
    this.#mustGoOn()
  }

  /** After a failure: resolves when nothing is under way. Never rejects. */
  async settle(): Promise<void> {
    while (this.#uploads.size > 0) await Promise.race(this.#uploads)
    for (const packs of Object.values(this.#open)) for (const pack of packs) await pack?.close().catch(() => {})
  }

  #store(pack: OpenPack): void {
    const upload: Promise<void> = this.#upload(pack).catch(error => { this.#failure ??= { error } }).finally(() => { this.#uploads.delete(upload) })
    this.#uploads.add(upload)
  }

  async #upload(pack: OpenPack): Promise<void> {
    const { access, stored, signal } = this.#options
    const { name, bytes, memory } = await pack.seal(access.keys, this.#memory.pop())
    await access.backend.save({ type: 'data', name }, bytes, { signal })
    this.#memory.push(memory)
    await stored({ pack: name, entries: pack.entries })
  }

  #mustGoOn(): void {
    if (this.#failure) throw this.#failure.error
  }
}
