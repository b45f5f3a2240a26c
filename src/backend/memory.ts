import { CorruptError, NotFoundError } from '../errors.js'
import { throwIfAborted } from '../util/abort.js'
import { isIdName } from '../util/hex.js'
import type { Backend, FileInfo, FileType, Handle, ReadOptions, SaveOptions } from './backend.js'
import { fileName } from './file-name.js'

/** A repository in memory: for tests, and the plainest reading of what Backend promises. */
export class MemoryBackend implements Backend {
  readonly location = 'memory'
  readonly connections = 4
  /** by `type/name`; 'config/' is the config */
  readonly files = new Map<string, Buffer>()

  put({ type, name }: Handle, bytes: Uint8Array): void { this.files.set(`${type}/${name}`, Buffer.from(bytes)) }

  async create(): Promise<void> {}

  async save(handle: Handle, bytes: Buffer, { signal }: SaveOptions = {}): Promise<void> {
    throwIfAborted(signal)
    this.put(handle, bytes)
  }

  async remove(handle: Handle, { signal }: SaveOptions = {}): Promise<void> {
    throwIfAborted(signal)
    if (!this.files.delete(`${handle.type}/${handle.name}`)) throw new NotFoundError(fileName(handle))
  }

  async list(type: Exclude<FileType, 'config'>, { signal }: ReadOptions = {}): Promise<FileInfo[]> {
    throwIfAborted(signal)
    const files: FileInfo[] = []
    for (const [key, bytes] of this.files) {
      const name = key.slice(type.length + 1)
      if (key.startsWith(`${type}/`) && isIdName(name)) files.push({ name, size: bytes.length })
    }
    return files
  }

  async read(handle: Handle, offset: number, length: number, { signal }: ReadOptions = {}): Promise<Buffer> {
    const bytes = this.#get(handle, signal)
    if (offset + length > bytes.length) throw new CorruptError(fileName(handle), `truncated: ends at byte ${bytes.length}, ${offset + length} expected`)
    return Buffer.from(bytes.subarray(offset, offset + length))
  }

  async readAll(handle: Handle, maxLength: number, { signal }: ReadOptions = {}): Promise<Buffer> {
    const bytes = this.#get(handle, signal)
    if (bytes.length > maxLength) throw new CorruptError(fileName(handle), `${bytes.length} bytes are too many, ${maxLength} at most`)
    return Buffer.from(bytes)
  }

  async stat(handle: Handle, { signal }: ReadOptions = {}): Promise<FileInfo> {
    return { name: handle.name, size: this.#get(handle, signal).length }
  }

  async close(): Promise<void> {}

  #get(handle: Handle, signal: AbortSignal | undefined): Buffer {
    throwIfAborted(signal)
    const bytes = this.files.get(`${handle.type}/${handle.name}`)
    if (!bytes) throw new NotFoundError(fileName(handle))
    return bytes
  }
}
