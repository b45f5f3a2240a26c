import type { IncomingMessage } from 'node:http'
import { DaybookError, NotFoundError } from '../errors.js'
import { forEachLimited } from '../util/concurrency.js'
import { isIdName } from '../util/hex.js'
import { attempt, type Attempt } from './attempt.js'
import type { Backend, FileInfo, FileType, Handle, ReadOptions, SaveOptions } from './backend.js'
import { fileName } from './file-name.js'
import { readInto, readUpTo } from './http/body.js'
import { HttpClient, makeAgents } from './http/client.js'
import { connectionError, nothing, statusError, tooLong, truncated } from './http/errors.js'
import type { Location } from './location.js'
import { connectionsOf, type BackendOptions } from './options.js'
import { parseRestLocation } from './rest-location.js'

const V2 = 'application/vnd.x.restic.rest.v2'
/** Two million packs. */
const MAX_LIST_BYTES = 200 << 20

type Request<T> = (get: (method: 'GET' | 'HEAD' | 'POST' | 'DELETE', path: string, range?: string, body?: Buffer) => Promise<IncomingMessage>, attempt: Attempt) => Promise<T>

/**
 * A repository behind a REST server (rest-server, `rclone serve restic`): restic's doc/REST_backend.rst. All files of a type lie in one folder there.
 * A list has names and sizes in version 2 of the protocol; in version 1 names only, and every size is asked for.
 */
export class RestBackend implements Backend {
  readonly location: string
  readonly connections: number
  readonly #root: string
  readonly #client: HttpClient

  /** @throws DaybookError ERR_USAGE: location or options */
  constructor(location: Location, { extended, tls }: Pick<BackendOptions, 'extended' | 'tls'>, env: NodeJS.ProcessEnv = process.env) {
    const { url, credentials } = parseRestLocation(location, env)
    this.location = location.display
    this.connections = connectionsOf(extended, 'rest.connections')
    this.#root = url.pathname
    const authorization = credentials && `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`
    this.#client = new HttpClient(url, makeAgents(url.protocol, this.connections, tls), { accept: V2, 'user-agent': 'daybook', ...authorization && { authorization } })
  }

  list(type: Exclude<FileType, 'config'>, options: ReadOptions = {}): Promise<FileInfo[]> {
    return this.#request(options, async (get, { alive, signal }) => {
      const answer = await get('GET', `${type}/`)
      // rclone lists a folder that is missing as empty, and says 404 to faults of its own (github.com/rclone/rclone/pull/7550).
      if (answer.statusCode === 404 && !String(answer.headers.server).startsWith('rclone/')) return drop(answer, [])
      this.#mustBe(answer, [200], null)
      const bytes = await readUpTo(answer, MAX_LIST_BYTES, alive)
      const entries = parseList(bytes, `${this.location} sent a list of ${type}`)
      if (answer.headers['content-type']?.startsWith(V2)) return entries.filter(isFile)
      const files: FileInfo[] = []
      await forEachLimited(entries.filter(isName), this.connections, async name => {
        const size = await this.#size(get, { type, name }).catch(error => {
          if (error instanceof NotFoundError && !signal.aborted) return null // deleted since
          throw error
        })
        alive()
        if (size !== null) files.push({ name, size })
      })
      return files
    })
  }

  read(handle: Handle, offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    const file = fileName(handle)
    const { into } = options
    return this.#request(options, async (get, { alive }) => {
      // HTTP has no way to ask for nothing.
      if (length === 0) return nothing(await this.#size(get, handle), file, offset)
      const end = offset + length
      const answer = await get('GET', pathOf(handle), `bytes=${offset}-${end - 1}`)
      const { start, total } = rangeOf(answer)
      if (answer.statusCode === 416) throw drop(answer, truncated(file, total ?? offset, end))
      this.#mustBe(answer, [200, 206], file)
      if (total !== null && total < end) throw drop(answer, truncated(file, total, end))
      if (start === null || start > offset) throw drop(answer, new DaybookError('ERR_UNREACHABLE', `${this.location} sent another part of ${file}`))
      const target = into !== undefined && into.length >= length ? into.subarray(0, length) : Buffer.allocUnsafeSlow(length)
      await readInto(this.location, answer, target, offset - start, alive)
      return target
    })
  }

  readAll(handle: Handle, maxLength: number, options: ReadOptions = {}): Promise<Buffer> {
    const file = fileName(handle)
    return this.#request(options, async (get, { alive }) => {
      const answer = await get('GET', pathOf(handle))
      this.#mustBe(answer, [200], file)
      const size = lengthOf(answer)
      if (size !== null && size > maxLength) throw drop(answer, tooLong(file, size, maxLength))
      const bytes = await readUpTo(answer, maxLength, alive)
      if (bytes === null) throw tooLong(file, maxLength + 1, maxLength)
      return bytes
    })
  }

  stat(handle: Handle, options: ReadOptions = {}): Promise<FileInfo> {
    return this.#request(options, async get => ({ name: handle.name, size: await this.#size(get, handle) }))
  }

  create(options: SaveOptions = {}): Promise<void> {
    return this.#request(options, async get => {
      const answer = await get('POST', '?create=true')
      this.#mustBe(answer, [200, 201, 204], null)
      drop(answer, undefined)
    })
  }

  /** The server compares what it got with the name, which is its hash, and shows nothing before. */
  save(handle: Handle, bytes: Buffer, options: SaveOptions = {}): Promise<void> {
    return this.#request(options, async get => {
      const answer = await get('POST', pathOf(handle), undefined, bytes)
      // 403 also says that the file is there: the answer to an earlier try may have been lost.
      if (answer.statusCode === 403 && await this.#size(get, handle).then(size => size === bytes.length, () => false)) return drop(answer, undefined)
      this.#mustBe(answer, [200, 201, 204], fileName(handle))
      drop(answer, undefined)
    })
  }

  remove(handle: Handle, options: SaveOptions = {}): Promise<void> {
    return this.#request(options, async get => {
      const answer = await get('DELETE', pathOf(handle))
      this.#mustBe(answer, [200, 204], fileName(handle))
      drop(answer, undefined)
    })
  }

  async close(): Promise<void> { this.#client.close() }

  #request<T>(options: ReadOptions, request: Request<T>): Promise<T> {
    return attempt(this.location, options, async current => {
      const get = async (method: 'GET' | 'HEAD' | 'POST' | 'DELETE', path: string, range?: string, body?: Buffer) => {
        const headers = { ...range !== undefined && { range }, ...body && { 'content-type': 'application/octet-stream' } }
        const answer = await this.#client.send(method, this.#root + path, headers, current.signal, body && { bytes: body, progress: () => current.alive() })
        current.alive()
        return answer
      }
      try {
        return await request(get, current)
      } catch (error) {
        throw connectionError(this.location, error as Error)
      }
    })
  }

  async #size(get: Parameters<Request<void>>[0], handle: Handle): Promise<number> {
    const answer = await get('HEAD', pathOf(handle))
    this.#mustBe(answer, [200], fileName(handle))
    const size = lengthOf(answer)
    if (size === null) throw drop(answer, new DaybookError('ERR_UNREACHABLE', `${this.location} does not say how long ${fileName(handle)} is`))
    return drop(answer, size)
  }

  #mustBe(answer: IncomingMessage, expected: readonly number[], file: string | null): void {
    const status = answer.statusCode!
    if (expected.includes(status)) return
    throw drop(answer, statusError(this.location, status, file, answer.headers.location === undefined ? answer.statusMessage : `go to ${answer.headers.location}`))
  }
}

function pathOf({ type, name }: Handle): string {
  if (type === 'config') return 'config'
  // A name comes from stored files; it must not lead anywhere else.
  if (!isIdName(name)) throw new DaybookError('ERR_USAGE', `not a file name of a repository: ${JSON.stringify(name)}`)
  return `${type}/${name}`
}

/** The rest of an answer is of no use; its connection is, to others. */
function drop<T>(answer: IncomingMessage, result: T): T {
  if ((lengthOf(answer) ?? Infinity) <= 64 << 10) answer.resume()
  else answer.destroy()
  return result
}

function lengthOf({ headers }: IncomingMessage): number | null {
  const length = Number(headers['content-length'] ?? NaN)
  return Number.isSafeInteger(length) ? length : null
}

/** Where the body begins in the file, and how long the file is; null where it is not said. A server may ignore the range and send everything. */
function rangeOf(answer: IncomingMessage): { start: number | null, total: number | null } {
  if (answer.statusCode === 200) return { start: 0, total: lengthOf(answer) }
  const [, start, total] = /^bytes (?:(\d+)-\d+|\*)\/(\d+|\*)$/.exec(answer.headers['content-range'] ?? '') ?? []
  return { start: start === undefined ? null : Number(start), total: total === undefined || total === '*' ? null : Number(total) }
}

function parseList(bytes: Buffer | null, what: string): unknown[] {
  if (bytes === null) throw new DaybookError('ERR_UNREACHABLE', `${what} that is too long`)
  try {
    const list: unknown = JSON.parse(bytes.toString('utf8'))
    if (Array.isArray(list)) return list
    if (list === null) return [] // what Go makes of a list without entries
  } catch {
    // said below
  }
  throw new DaybookError('ERR_UNREACHABLE', `${what} that is none`, 'is this the address of a REST server for restic?')
}

function isName(entry: unknown): entry is string { return typeof entry === 'string' && isIdName(entry) }

function isFile(entry: unknown): entry is FileInfo {
  const { name, size } = (entry ?? {}) as FileInfo
  return isName(name) && Number.isSafeInteger(size) && size >= 0
}
