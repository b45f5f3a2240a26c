import { constants, open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AccessError, CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { raceAbort, throwIfAborted } from '../util/abort.js'
import { forEachLimited } from '../util/concurrency.js'
import { isIdName } from '../util/hex.js'
import type { FileInfo, FileType, Handle, Range, ReadBackend, ReadOptions } from './backend.js'
import { fileName } from './file-name.js'
import { OpenFiles } from './open-files.js'

/** More at once only queue up in libuv's thread pool, which decoding shares. */
const CONNECTIONS = 4
const STATS_AT_ONCE = 16

/**
 * A repository in a folder, in restic's default layout: config, keys/, snapshots/, index/, locks/, data/xx/. Packs right in data/
 * are found too (repositories copied from object storage). Any folder may be a symbolic link.
 */
export class LocalBackend implements ReadBackend {
  readonly location: string
  readonly connections = CONNECTIONS
  readonly #root: string
  readonly #packs: OpenFiles

  /** @param root absolute path */
  constructor(root: string) {
    this.#root = root
    this.location = root
    this.#packs = new OpenFiles()
  }

  async list(type: Exclude<FileType, 'config'>, { signal }: ReadOptions = {}): Promise<FileInfo[]> {
    throwIfAborted(signal)
    return raceAbort(this.#list(type, signal), signal)
  }

  async read(handle: Handle, offset: number, length: number, { signal, into }: ReadOptions = {}): Promise<Buffer> {
    throwIfAborted(signal)
    return raceAbort(this.#atEitherPlace(handle, path => this.#packs.read(path, offset, length, into)).then(bytes => {
      if (bytes.length < length) throw new CorruptError(fileName(handle), `truncated: ends at byte ${offset + bytes.length}, ${offset + length} expected`)
      return bytes
    }), signal)
  }

  async readRanges(ranges: readonly Range[], into: Buffer, { signal }: { signal?: AbortSignal } = {}): Promise<ArrayLike<number>> {
    throwIfAborted(signal)
    return raceAbort(this.#packs.readRanges(ranges.map(range => ({ ...range, path: this.#paths(range.handle)[0] })), into), signal)
  }

  async readAll(handle: Handle, maxLength: number, { signal }: ReadOptions = {}): Promise<Buffer> {
    throwIfAborted(signal)
    return raceAbort(this.#atEitherPlace(handle, async path => {
      const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
      try {
        const found = await file.stat()
        if (!found.isFile()) throw new CorruptError(fileName(handle), 'not a regular file')
        if (found.size > maxLength) throw new CorruptError(fileName(handle), `${found.size} bytes are too many, ${maxLength} at most`)
        return await file.readFile()
      } finally {
        await file.close()
      }
    }), signal)
  }

  async stat(handle: Handle, { signal }: ReadOptions = {}): Promise<FileInfo> {
    throwIfAborted(signal)
    return raceAbort(this.#atEitherPlace(handle, async path => ({ name: handle.name, size: (await stat(path)).size })), signal)
  }

  async close(): Promise<void> { await this.#packs.close() }

  async #list(type: Exclude<FileType, 'config'>, signal: AbortSignal | undefined): Promise<FileInfo[]> {
    const folder = join(this.#root, type)
    const entries = await this.#names(folder)
    const paths = new Map<string, string>()
    for (const name of entries) if (isIdName(name)) paths.set(name, join(folder, name))
    if (type === 'data') {
      await forEachLimited(entries.filter(name => /^[0-9a-f]{2}$/.test(name)), STATS_AT_ONCE, async prefix => {
        throwIfAborted(signal)
        for (const name of await this.#names(join(folder, prefix))) if (isIdName(name)) paths.set(name, join(folder, prefix, name))
      })
    }
    const files: FileInfo[] = []
    await forEachLimited(paths, STATS_AT_ONCE, async ([name, path]) => {
      throwIfAborted(signal)
      try {
        const found = await stat(path)
        if (found.isFile()) files.push({ name, size: found.size })
      } catch (error) {
        // deleted since its folder was read
        if (!isMissing(error)) throw translate(error, path)
      }
    })
    return files
  }

  async #names(folder: string): Promise<string[]> {
    try {
      return await readdir(folder)
    } catch (error) {
      if (isMissing(error)) return []
      throw translate(error, folder)
    }
  }

  async #atEitherPlace<T>(handle: Handle, use: (path: string) => Promise<T>): Promise<T> {
    const [first, second] = this.#paths(handle)
    try {
      return await use(first)
    } catch (error) {
      if (second === undefined || !isMissing(error)) throw translateFor(handle, error, first)
    }
    try {
      return await use(second)
    } catch (error) {
      throw translateFor(handle, error, second)
    }
  }

  #paths({ type, name }: Handle): [string, string?] {
    if (type === 'config') return [join(this.#root, 'config')]
    // A name comes from stored files; it must not lead anywhere else.
    if (!isIdName(name)) throw new DaybookError('ERR_USAGE', `not a file name of a repository: ${JSON.stringify(name)}`)
    const flat = join(this.#root, type, name)
    return type === 'data' ? [join(this.#root, type, name.slice(0, 2), name), flat] : [flat]
  }
}

function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR'
}

function translateFor(handle: Handle, error: unknown, path: string): unknown {
  if (isMissing(error)) return new NotFoundError(fileName(handle), { cause: error })
  const { code } = error as NodeJS.ErrnoException
  // What reading a folder, a FIFO, a socket or a ring of symbolic links ends with.
  if (code !== undefined && ['EISDIR', 'ESPIPE', 'ENXIO', 'EAGAIN', 'ELOOP'].includes(code)) return new CorruptError(fileName(handle), 'not a regular file', { cause: error })
  return translate(error, path)
}

/** @returns what a caller can act on: no permission, which stays, or a fault that may pass */
function translate(error: unknown, path: string): unknown {
  if (error instanceof DaybookError) return error
  const { code, syscall } = error as NodeJS.ErrnoException
  if (code === undefined || syscall === undefined) return error
  if (code === 'EACCES' || code === 'EPERM') {
    return new AccessError(path, 'read it as the user who writes the backups or as root, or change the permissions', { cause: error })
  }
  const hint = code === 'EMFILE' || code === 'ENFILE' ? 'too many open files; raise the limit (ulimit -n)' : code === 'EIO' ? 'the disk reports errors; look into the kernel log' : undefined
  return new DaybookError('ERR_UNREACHABLE', `cannot read ${path}: ${code}`, hint, { cause: error })
}
