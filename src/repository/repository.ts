import type { FileInfo, ReadBackend, ReadOptions } from '../backend/backend.js'
import { decryptFile } from '../crypto/decrypt.js'
import { CorruptError } from '../errors.js'
import type { RepositoryConfig } from '../format/config.js'
import { decodePackHeader, EAGER_TAIL_LENGTH, HEADER_LENGTH_SIZE, packHeaderLength } from '../format/pack-header.js'
import type { PackEntry } from '../format/pack-header.js'
import type { IndexFile } from '../format/index-file.js'
import { decodeSnapshot } from '../format/snapshot.js'
import type { Snapshot } from '../format/snapshot.js'
import type { Prefetch } from './prefetch.js'
import { loadIndexFile, loadUnpacked } from './unpacked.js'
import type { UnpackedType } from './unpacked.js'

/** An opened repository. Made by openRepository() only. */
export class Repository {
  /** 64 hex digits */
  readonly id: string
  readonly version: 1 | 2
  readonly config: RepositoryConfig

  constructor(
    readonly backend: ReadBackend,
    config: RepositoryConfig,
    /** AES-256 key (32 bytes), Poly1305 k (16), r (16), as the addon takes them. Zeroed by close(). */
    readonly keys: Buffer,
    /** name of the key file that was opened */
    readonly keyName: string,
    /** what was read beside the key derivation; used once, then dropped */
    readonly prefetch: Prefetch | null = null,
  ) {
    this.config = config
    this.id = config.id
    this.version = config.version
  }

  /** Plaintext of a file that is not a pack: its name, its MAC and its form are checked. @throws CorruptError, NotFoundError, ERR_UNREACHABLE */
  loadUnpacked(type: UnpackedType, name: string, options?: ReadOptions): Promise<Buffer> {
    return loadUnpacked(this, type, name, options)
  }

  /** An index file, decoded. @throws as loadUnpacked */
  loadIndexFile(name: string, options?: ReadOptions): Promise<IndexFile> { return loadIndexFile(this, name, options) }

  async loadSnapshot(name: string, options?: ReadOptions): Promise<Snapshot> {
    return decodeSnapshot(name, await this.loadUnpacked('snapshots', name, options))
  }

  list(type: 'snapshots' | 'index' | 'data', options?: ReadOptions): Promise<FileInfo[]> {
    return this.backend.list(type, options)
  }

  /** Entries of a pack from its own header: one request, two where it holds many blobs; from each further source, where it proves damaged. @param packLength bytes of the pack, from list or stat */
  async loadPackHeader(pack: string, packLength: number, options?: ReadOptions): Promise<PackEntry[]> {
    for (let again = 0; ; again++) {
      try {
        return await this.#loadPackHeader(pack, packLength, again === 0 ? options : { ...options, again })
      } catch (error) {
        if (!(error instanceof CorruptError) || again + 1 >= (this.backend.sources ?? 1)) throw error
      }
    }
  }

  async #loadPackHeader(pack: string, packLength: number, options?: ReadOptions): Promise<PackEntry[]> {
    const handle = { type: 'data', name: pack } as const
    const eager = Math.min(EAGER_TAIL_LENGTH, packLength)
    let tail = await this.backend.read(handle, packLength - eager, eager, options)
    const length = packHeaderLength(pack, tail, packLength)
    const needed = length + HEADER_LENGTH_SIZE
    if (needed > tail.length) tail = await this.backend.read(handle, packLength - needed, needed, options)
    const encrypted = tail.subarray(tail.length - needed, tail.length - HEADER_LENGTH_SIZE)
    const header = await decryptFile(`pack ${pack}`, this.keys, encrypted, { zstd: false, maxLength: length })
    return decodePackHeader(pack, header, packLength - needed)
  }

  /** Zeroes the keys and closes the backend. Nothing may be asked afterwards. */
  async close(): Promise<void> {
    this.keys.fill(0)
    this.prefetch?.drop()
    await this.backend.close()
  }
}
