import { randomBytes } from 'node:crypto'
import type { FileEntryWithStats, Stats } from 'ssh2'
import { AccessError, CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { forEachLimited } from '../util/concurrency.js'
import { isIdName } from '../util/hex.js'
import { splitCommand } from '../util/split-command.js'
import { attempt, type Attempt } from './attempt.js'
import type { Backend, FileInfo, FileType, Handle, ReadOptions, SaveOptions } from './backend.js'
import { fileName } from './file-name.js'
import type { Location } from './location.js'
import { connectionsOf, type BackendOptions } from './options.js'
import { closeFile, openFile, SftpHandles } from './sftp-handles.js'
import { parseSftpLocation, type SftpLocation } from './sftp-location.js'
import { SshConnection } from './ssh/connection.js'
import { SshPool } from './ssh/pool.js'
import { sshSettings, type SshSettings } from './ssh/settings.js'

/** What every server answers in one piece or two: OpenSSH's takes up to 255 KiB, the protocol promises 32. */
const CHUNK = 64 << 10
/** Asked for ahead, of one range: as much as a connection's window lets through. */
const CHUNKS_AT_ONCE = 32
const FOLDERS_AT_ONCE = 16

/** SFTP's own error numbers: draft-ietf-secsh-filexfer-02, section 7. */
const Status = { eof: 1, noSuchFile: 2, permissionDenied: 3 } as const

/** A repository behind an SSH server, in restic's default layout; packs right in data/ are found too, as in a local folder. */
export class SftpBackend implements Backend {
  readonly location: string
  readonly connections: number
  readonly #root: string
  readonly #pool: SshPool
  readonly #handles = new WeakMap<SshConnection, SftpHandles>()
  #settings: Promise<SshSettings> | null = null

  /** @throws DaybookError ERR_USAGE: location or options */
  constructor(location: Location, { extended }: Pick<BackendOptions, 'extended'>) {
    const place = parseSftpLocation(location)
    const args = extended['sftp.args'] ? splitCommand('-o sftp.args', extended['sftp.args']) : []
    this.location = location.display
    this.connections = connectionsOf(extended, 'sftp.connections')
    this.#root = place.path
    this.#pool = new SshPool(this.connections, () => this.#connect(place, args))
  }

  list(type: Exclude<FileType, 'config'>, options: ReadOptions = {}): Promise<FileInfo[]> {
    return this.#request(options, type, async (connection, current) => {
      const files = new Map<string, FileInfo>()
      const folders: string[] = []
      for (const { filename, attrs } of await this.#entries(connection, type, current)) {
        if (isIdName(filename)) await this.#add(files, connection, `${type}/${filename}`, filename, attrs)
        else if (type === 'data' && /^[0-9a-f]{2}$/.test(filename)) folders.push(`data/${filename}`)
      }
      await forEachLimited(folders, FOLDERS_AT_ONCE, async folder => {
        for (const { filename, attrs } of await this.#entries(connection, folder, current)) {
          if (isIdName(filename)) await this.#add(files, connection, `${folder}/${filename}`, filename, attrs)
        }
      })
      return [...files.values()]
    })
  }

  read(handle: Handle, offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    const { into } = options
    return this.#request(options, handle, (connection, current) => this.#atEitherPlace(handle, path => this.#handlesOf(connection).use(path, async opened => {
      const target = into !== undefined && into.length >= length ? into.subarray(0, length) : Buffer.allocUnsafeSlow(length)
      const got = await readRange(connection, opened, target, offset, current)
      if (got < length) throw new CorruptError(fileName(handle), `truncated: ends at byte ${offset + got}, ${offset + length} expected`)
      return target
    })))
  }

  readAll(handle: Handle, maxLength: number, options: ReadOptions = {}): Promise<Buffer> {
    const file = fileName(handle)
    return this.#request(options, handle, (connection, current) => this.#atEitherPlace(handle, async path => {
      const opened = await openFile(connection, path)
      try {
        const first = Buffer.allocUnsafe(Math.min(CHUNK, maxLength))
        // Most files are small: their length is asked for and their bytes at once.
        const [stats, got] = await Promise.all([
          connection.call<Stats>(done => connection.sftp.fstat(opened, done)),
          readRange(connection, opened, first, 0, current),
        ])
        if (stats.isDirectory()) throw new CorruptError(file, 'not a regular file')
        if (stats.size > maxLength) throw new CorruptError(file, `${stats.size} bytes are too many, ${maxLength} at most`)
        if (got === stats.size) return first.subarray(0, got)
        const bytes = Buffer.allocUnsafeSlow(stats.size)
        first.copy(bytes, 0, 0, got)
        const more = await readRange(connection, opened, bytes.subarray(got), got, current)
        if (got + more < stats.size) throw new DaybookError('ERR_UNREACHABLE', `${this.location} sent ${got + more} bytes of ${stats.size} of ${file}`)
        return bytes
      } finally {
        closeFile(connection, opened)
      }
    }))
  }

  stat(handle: Handle, options: ReadOptions = {}): Promise<FileInfo> {
    return this.#request(options, handle, connection => this.#atEitherPlace(handle, async path => {
      const { size } = await connection.call<Stats>(done => connection.sftp.stat(path, done))
      return { name: handle.name, size }
    }))
  }

  create(options: SaveOptions = {}): Promise<void> {
    return this.#request(options, 'config', async (connection, { alive }) => {
      const folders = ['keys', 'snapshots', 'index', 'locks', 'data']
      for (const folder of ['', ...folders]) await this.#makeFolder(connection, folder)
      await forEachLimited(Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0')), FOLDERS_AT_ONCE, async name => {
        await this.#makeFolder(connection, `data/${name}`)
        alive()
      })
    })
  }

  /** Under a name of its own first, which no list shows; its length is asked for before it gets its name. */
  save(handle: Handle, bytes: Buffer, options: SaveOptions = {}): Promise<void> {
    return this.#request(options, handle, async (connection, current) => {
      const path = this.#pathOf(handle)
      const temporary = `${path}-tmp-${randomBytes(6).toString('hex')}`
      const open = () => connection.call<Buffer>(done => connection.sftp.open(temporary, 'wx', { mode: 0o600 }, done))
      const opened = await open().catch(async error => {
        if (statusOf(error) !== Status.noSuchFile) throw error
        await this.#makeFolder(connection, path.slice(this.#root.length + 1, path.lastIndexOf('/')))
        return open()
      })
      try {
        await writeAll(connection, opened, bytes, current)
        const { size } = await connection.call<Stats>(done => connection.sftp.fstat(opened, done))
        if (size !== bytes.length) throw new DaybookError('ERR_UNREACHABLE', `${this.location} kept ${size} bytes of ${bytes.length} of ${fileName(handle)}`)
        // OpenSSH has it; what others do is up to them.
        await connection.call<void>(done => connection.sftp.ext_openssh_fsync(opened, error => done(error ?? null, undefined))).catch(error => { if (connection.closed) throw error })
        await connection.call<void>(done => connection.sftp.close(opened, error => done(error ?? null, undefined)))
        await this.#rename(connection, temporary, path)
      } catch (error) {
        closeFile(connection, opened)
        if (!connection.closed) await connection.call<void>(done => connection.sftp.unlink(temporary, error => done(error ?? null, undefined))).catch(() => {})
        throw error
      }
      await connection.call<void>(done => connection.sftp.chmod(path, 0o400, error => done(error ?? null, undefined))).catch(() => {})
    })
  }

  remove(handle: Handle, options: SaveOptions = {}): Promise<void> {
    return this.#request(options, handle, connection => this.#atEitherPlace(handle, path => connection.call<void>(done => connection.sftp.unlink(path, error => done(error ?? null, undefined)))))
  }

  async close(): Promise<void> { this.#pool.close() }

  /** With those above it; one that is there stays. */
  async #makeFolder(connection: SshConnection, folder: string): Promise<void> {
    const path = folder === '' ? this.#root : `${this.#root}/${folder}`
    const make = (path: string) => connection.call<void>(done => connection.sftp.mkdir(path, { mode: 0o700 }, error => done(error ?? null, undefined)))
    const isThere = () => connection.call<Stats>(done => connection.sftp.stat(path, done)).then(stats => stats.isDirectory(), () => false)
    try {
      await make(path)
    } catch (error) {
      if (await isThere()) return
      const parent = path.slice(0, path.lastIndexOf('/'))
      if (statusOf(error) !== Status.noSuchFile || parent === '' || folder !== '') throw error
      for (let at = path.indexOf('/', 1); at > 0; at = path.indexOf('/', at + 1)) await make(path.slice(0, at)).catch(() => {})
      await make(path)
    }
  }

  /** SFTP's own rename replaces nothing; OpenSSH has one that does. */
  async #rename(connection: SshConnection, from: string, to: string): Promise<void> {
    try {
      await connection.call<void>(done => connection.sftp.ext_openssh_rename(from, to, error => done(error ?? null, undefined)))
    } catch (error) {
      if (connection.closed || statusOf(error) === Status.permissionDenied) throw error
      await connection.call<void>(done => connection.sftp.rename(from, to, error => done(error ?? null, undefined)))
    }
  }

  #request<T>(options: ReadOptions, what: Handle | FileType, request: (connection: SshConnection, current: Attempt) => Promise<T>): Promise<T> {
    return attempt(this.location, options, async current => {
      const connection = await this.#pool.take()
      current.alive()
      // One that has gone silent is not to be used again; one whose caller has gone is as good as before.
      const suspect = () => { if ((current.signal.reason as DaybookError).code === 'ERR_UNREACHABLE') connection.destroy() }
      current.signal.addEventListener('abort', suspect, { once: true })
      connection.running++
      try {
        return await request(connection, current)
      } catch (error) {
        throw translate(error as Error, this.location, what)
      } finally {
        connection.running--
      }
    })
  }

  async #connect(place: SftpLocation, args: readonly string[]): Promise<SshConnection> {
    this.#settings ??= sshSettings(place, args).catch(error => {
      this.#settings = null
      throw error
    })
    return SshConnection.open(await this.#settings, this.location)
  }

  #handlesOf(connection: SshConnection): SftpHandles {
    const known = this.#handles.get(connection)
    if (known !== undefined) return known
    const handles = new SftpHandles(connection)
    this.#handles.set(connection, handles)
    return handles
  }

  async #entries(connection: SshConnection, folder: string, { alive, signal }: Attempt): Promise<FileEntryWithStats[]> {
    signal.throwIfAborted()
    try {
      return await connection.call<FileEntryWithStats[]>(done => connection.sftp.readdir(`${this.#root}/${folder}`, done))
    } catch (error) {
      if (statusOf(error) === Status.noSuchFile) return []
      throw error
    } finally {
      alive()
    }
  }

  /** What a list says of a symbolic link is not what it leads to. */
  async #add(files: Map<string, FileInfo>, connection: SshConnection, path: string, name: string, listed: Stats): Promise<void> {
    const stats = !listed.isSymbolicLink() ? listed
      : await connection.call<Stats>(done => connection.sftp.stat(`${this.#root}/${path}`, done)).catch(error => {
        if (statusOf(error) === Status.noSuchFile) return null
        throw error
      })
    if (stats?.isFile()) files.set(name, { name, size: stats.size })
  }

  async #atEitherPlace<T>(handle: Handle, use: (path: string) => Promise<T>): Promise<T> {
    try {
      return await use(this.#pathOf(handle))
    } catch (error) {
      if (handle.type !== 'data' || statusOf(error) !== Status.noSuchFile) throw error
      return use(`${this.#root}/data/${handle.name}`)
    }
  }

  /** Where a file belongs. */
  #pathOf({ type, name }: Handle): string {
    if (type === 'config') return `${this.#root}/config`
    // A name comes from stored files; it must not lead anywhere else.
    if (!isIdName(name)) throw new DaybookError('ERR_USAGE', `not a file name of a repository: ${JSON.stringify(name)}`)
    return type === 'data' ? `${this.#root}/data/${name.slice(0, 2)}/${name}` : `${this.#root}/${type}/${name}`
  }
}

/** Fill `target` from a place in an open file. @returns how many bytes there were; fewer only at the end of the file */
async function readRange(connection: SshConnection, handle: Buffer, target: Buffer, offset: number, { signal, alive }: Attempt): Promise<number> {
  let end = target.length
  const starts = Array.from({ length: Math.ceil(target.length / CHUNK) }, (_, i) => i * CHUNK)
  await forEachLimited(starts, CHUNKS_AT_ONCE, async start => {
    const stop = Math.min(start + CHUNK, target.length)
    // A server may answer with less than was asked for.
    for (let at = start; at < stop && at < end;) {
      signal.throwIfAborted()
      const got = await connection.call<number>(done => connection.sftp.read(handle, target, at, stop - at, offset + at, (error, count) => {
        if (error && statusOf(error) !== Status.eof) done(error, 0)
        else done(null, error ? 0 : count)
      }))
      alive()
      if (got === 0) end = Math.min(end, at)
      at += got
    }
  })
  return end
}

async function writeAll(connection: SshConnection, handle: Buffer, bytes: Buffer, { signal, alive }: Attempt): Promise<void> {
  const starts = Array.from({ length: Math.ceil(bytes.length / CHUNK) }, (_, i) => i * CHUNK)
  await forEachLimited(starts, CHUNKS_AT_ONCE, async start => {
    signal.throwIfAborted()
    await connection.call<void>(done => connection.sftp.write(handle, bytes, start, Math.min(CHUNK, bytes.length - start), start, error => done(error ?? null, undefined)))
    alive()
  })
}

function statusOf(error: unknown): number | null {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'number' ? code : null
}

function translate(error: Error, location: string, what: Handle | FileType): Error {
  if (error instanceof DaybookError) return error
  const file = typeof what === 'string' ? what : fileName(what)
  const status = statusOf(error)
  if (status === Status.noSuchFile) return new NotFoundError(file, { cause: error })
  if (status === Status.permissionDenied) return new AccessError(`${file} at ${location}`, 'log in as the user who writes the backups, or change the permissions there', { cause: error })
  return new DaybookError('ERR_UNREACHABLE', `cannot read ${file} at ${location}: ${error.message}`, undefined, { cause: error })
}
