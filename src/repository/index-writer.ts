import { encodeIndexFile, type IndexedPack } from '../format/index-file.js'
import { saveUnpacked, type WriteAccess } from './save-unpacked.js'

/** An index file is written when it has so many blobs, or is so old: what is in it need not be stored again by who takes over after an abort. As restic. */
const MAX_BLOBS = 50_000
const MAX_AGE_MS = 10 * 60_000

/** Tells the repository which blobs lie in which packs, in index files of a handy size. */
export class IndexWriter {
  readonly #access: WriteAccess
  readonly #written: (name: string, json: Buffer, packs: readonly IndexedPack[]) => Promise<void> | void
  #packs: IndexedPack[] = []
  #blobs = 0
  #started = 0

  /** @param written an index file is in the repository */
  constructor(access: WriteAccess, written: (name: string, json: Buffer, packs: readonly IndexedPack[]) => Promise<void> | void = () => {}) {
    this.#access = access
    this.#written = written
  }

  /** A pack that is in the repository. */
  async add(pack: IndexedPack): Promise<void> {
    if (this.#packs.length === 0) this.#started = performance.now()
    this.#packs.push(pack)
    this.#blobs += pack.entries.length
    if (this.#blobs >= MAX_BLOBS || performance.now() - this.#started >= MAX_AGE_MS) await this.flush()
  }

  async flush(): Promise<void> {
    if (this.#packs.length === 0) return
    const packs = this.#packs
    const json = encodeIndexFile(packs)
    this.#packs = []
    this.#blobs = 0
    const name = await saveUnpacked(this.#access, 'index', json)
    await this.#written(name, json, packs)
  }
}
