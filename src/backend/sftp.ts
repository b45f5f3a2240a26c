import type { FileEntryWithStats, Stats } from 'ssh2'
import { AccessError, CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { forEachLimited } from '../util/concurrency.js'
import { isIdName } from '../util/hex.js'
import { splitCommand } from '../util/split-command.js'
import { attempt, type Attempt } from './attempt.js'
import type { FileInfo, FileType, Handle, ReadBackend, ReadOptions } from './backend.js'
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
export class SftpBackend implements ReadBackend {
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

  async close(): Promise<void> { this.#pool.close() }

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

  async #atEitherPlace<T>({ type, name }: Handle, use: (path: string) => Promise<T>): Promise<T> {
    if (type === 'config') return use(`${this.#root}/config`)
    // A name comes from stored files; it must not lead anywhere else.
    if (!isIdName(name)) throw new DaybookError('ERR_USAGE', `not a file name of a repository: ${JSON.stringify(name)}`)
    const flat = `${this.#root}/${type}/${name}`
    if (type !== 'data') return use(flat)
    try {
      return await use(`${this.#root}/data/${name.slice(0, 2)}/${name}`)
    } catch (error) {
      if (statusOf(error) !== Status.noSuchFile) throw error
      return use(flat)
    }
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
