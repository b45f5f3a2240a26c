import { randomBytes } from 'node:crypto'
import { chmod, constants, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AccessError, CorruptError, DaybookError, NotFoundError, RefusedError } from '../errors.js'
import { raceAbort, throwIfAborted } from '../util/abort.js'
import { forEachLimited } from '../util/concurrency.js'
import { isIdName } from '../util/hex.js'
import type { Backend, FileInfo, FileType, Handle, Range, ReadOptions, SaveOptions } from './backend.js'
import { fileName } from './file-name.js'
import { OpenFiles } from './open-files.js'

/** More at once only queue up in libuv's thread pool, which decoding shares. */
const CONNECTIONS = 4
const STATS_AT_ONCE = 16

/**
 * A repository in a folder, in restic's default layout: config, keys/, snapshots/, index/, locks/, data/xx/. Packs right in data/
 * are found too (repositories copied from object storage). Any folder may be a symbolic link.
 */
export class LocalBackend implements Backend {
  readonly location: string
  readonly connections = CONNECTIONS
  readonly #root: string
  readonly #packs: OpenFiles
  #modes: Promise<Modes> | null = null

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

  async create({ signal }: SaveOptions = {}): Promise<void> {
    throwIfAborted(signal)
    const folders = ['keys', 'snapshots', 'index', 'locks', ...Array.from({ length: 256 }, (_, byte) => `data/${byte.toString(16).padStart(2, '0')}`)]
    for (const folder of folders) {
      await mkdir(join(this.#root, folder), { recursive: true, mode: 0o700 }).catch(error => { throw translate(error, join(this.#root, folder), 'write') })
    }
  }

  /** Under a name of its own first, which no list shows; on the disk before it gets its name; its name on the disk before this is over. */
  async save(handle: Handle, bytes: Buffer, { signal }: SaveOptions = {}): Promise<void> {
    throwIfAborted(signal)
    const [path] = this.#paths(handle)
    const { file: mode, folder: folderMode } = await (this.#modes ??= this.#readModes())
    const temporary = `${path}-tmp-${randomBytes(6).toString('hex')}`
    try {
      const file = await open(temporary, 'wx', 0o600).catch(async error => {
        if (!isMissing(error)) throw error
        await mkdir(dirname(path), { recursive: true, mode: folderMode })
        return open(temporary, 'wx', 0o600)
      })
      try {
        await file.writeFile(bytes)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, path)
      await syncFolder(dirname(path))
      // As restic: nobody changes it by accident. Some file systems know no modes.
      await chmod(path, mode & 0o444).catch(() => {})
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {})
      throw translate(error, path, 'write')
    }
  }

  async remove(handle: Handle, { signal }: SaveOptions = {}): Promise<void> {
    throwIfAborted(signal)
    await this.#atEitherPlace(handle, path => rm(path))
  }

  async close(): Promise<void> { await this.#packs.close() }

  /** What the group may do with config, it may do with what is new. */
  async #readModes(): Promise<Modes> {
    const group = await stat(join(this.#root, 'config')).then(({ mode }) => (mode & 0o040) !== 0, () => false)
    return group ? { file: 0o660, folder: 0o770 } : { file: 0o600, folder: 0o700 }
  }

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

interface Modes { readonly file: number, readonly folder: number }

/** So that a new name outlives a loss of power. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } catch (error) {
    // Some file systems cannot do it for folders.
    if (!['EINVAL', 'ENOTSUP', 'EBADF'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  } finally {
    await folder.close()
  }
}

/** @returns what a caller can act on: no permission, which stays, or a fault that may pass */
function translate(error: unknown, path: string, verb: 'read' | 'write' = 'read'): unknown {
  if (error instanceof DaybookError) return error
  const { code, syscall } = error as NodeJS.ErrnoException
  if (code === undefined || syscall === undefined) return error
  if (code === 'EACCES' || code === 'EPERM') {
    return new AccessError(path, `${verb} it as the user who writes the backups or as root, or change the permissions`, { cause: error }, verb)
  }
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EROFS') return new RefusedError(`cannot write ${path}: ${code === 'EROFS' ? 'the file system is read-only' : 'no space is left'}`, undefined, { cause: error })
  const hint = code === 'EMFILE' || code === 'ENFILE' ? 'too many open files; raise the limit (ulimit -n)' : code === 'EIO' ? 'the disk reports errors; look into the kernel log' : undefined
  return new DaybookError('ERR_UNREACHABLE', `cannot ${verb} ${path}: ${code}`, hint, { cause: error })
}
