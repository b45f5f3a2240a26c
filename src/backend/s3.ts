import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { DeleteObjectCommand, GetObjectCommand, HeadObjectCommand, ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3'
import type { GetObjectCommandOutput, S3Client } from '@aws-sdk/client-s3'
import { DaybookError } from '../errors.js'
import { isIdName } from '../util/hex.js'
import { attempt, type Attempt } from './attempt.js'
import type { Backend, FileInfo, FileType, Handle, ReadOptions, SaveOptions } from './backend.js'
import { fileName } from './file-name.js'
import { readInto, readUpTo } from './http/body.js'
import { nothing, tooLong, truncated } from './http/errors.js'
import type { Location } from './location.js'
import { connectionsOf, type BackendOptions } from './options.js'
import { s3Client } from './s3-client.js'
import { isRangeError, lengthBehindRange, s3Error } from './s3-errors.js'
import { parseS3Location, type S3Location } from './s3-location.js'

/** Handed to the connection at once: enough to keep it busy, little enough to see that it takes it. */
const BODY_PIECE = 256 << 10

/** A repository in a bucket of any store that speaks S3, in restic's default layout: the names of its files in a folder, with slashes. */
export class S3Backend implements Backend {
  readonly location: string
  readonly connections: number
  readonly #place: S3Location
  readonly #client: S3Client

  /** @throws DaybookError ERR_USAGE: location or options; AccessError: half of a key */
  constructor(location: Location, { extended, tls }: Pick<BackendOptions, 'extended' | 'tls'>, env: NodeJS.ProcessEnv = process.env) {
    this.location = location.display
    this.connections = connectionsOf(extended, 's3.connections')
    this.#place = parseS3Location(location, extended, env)
    this.#client = s3Client(this.#place, this.connections, tls, env)
  }

  list(type: Exclude<FileType, 'config'>, options: ReadOptions = {}): Promise<FileInfo[]> {
    return this.#request(options, null, async ({ signal, alive }) => {
      const files = new Map<string, FileInfo>()
      const prefix = this.#key(`${type}/`)
      let token: string | undefined
      do {
        const page = await this.#client.send(new ListObjectsV2Command({ Bucket: this.#place.bucket, Prefix: prefix, ContinuationToken: token }), { abortSignal: signal })
        alive()
        for (const { Key: key = '', Size: size = 0 } of page.Contents ?? []) {
          const name = nameOf(type, key.slice(prefix.length))
          if (name !== null) files.set(name, { name, size })
        }
        if (page.IsTruncated && page.NextContinuationToken === token) throw new DaybookError('ERR_UNREACHABLE', `${this.location} sends the same page of a list again`)
        token = page.IsTruncated ? page.NextContinuationToken : undefined
      } while (token !== undefined)
      return [...files.values()]
    })
  }

  read(handle: Handle, offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    const file = fileName(handle)
    const { into } = options
    return this.#request(options, file, async current => {
      if (length === 0) return nothing(await this.#size(handle, current), file, offset)
      const end = offset + length
      const { ContentRange, ContentLength, body } = await this.#get(handle, current, `bytes=${offset}-${end - 1}`).catch(error => {
        throw isRangeError(error) ? truncated(file, lengthBehindRange(error) ?? offset, end) : error
      })
      // Without a range in the answer it is the whole file.
      const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(ContentRange ?? '') ?? [null, '0', String(ContentLength ?? '*')]
      if (Number(total) < end) throw discard(body, truncated(file, Number(total), end))
      if (Number(start) > offset) throw discard(body, new DaybookError('ERR_UNREACHABLE', `${this.location} sent another part of ${file}`))
      const target = into !== undefined && into.length >= length ? into.subarray(0, length) : Buffer.allocUnsafeSlow(length)
      await readInto(this.location, body, target, offset - Number(start), current.alive)
      return target
    })
  }

  readAll(handle: Handle, maxLength: number, options: ReadOptions = {}): Promise<Buffer> {
    const file = fileName(handle)
    return this.#request(options, file, async current => {
      const { ContentLength: size, body } = await this.#get(handle, current)
      if (size !== undefined && size > maxLength) throw discard(body, tooLong(file, size, maxLength))
      const bytes = await readUpTo(body, maxLength, current.alive)
      if (bytes === null) throw tooLong(file, maxLength + 1, maxLength)
      if (size !== undefined && bytes.length !== size) throw new DaybookError('ERR_UNREACHABLE', `${this.location} sent ${bytes.length} bytes of ${size} of ${file}`)
      return bytes
    })
  }

  stat(handle: Handle, options: ReadOptions = {}): Promise<FileInfo> {
    return this.#request(options, fileName(handle), async current => ({ name: handle.name, size: await this.#size(handle, current) }))
  }

  /** A bucket has no folders. */
  async create(): Promise<void> {}

  /** The hash of the contents is part of what is signed: a store keeps nothing else under the name. */
  save(handle: Handle, bytes: Buffer, options: SaveOptions = {}): Promise<void> {
    return this.#request(options, fileName(handle), async ({ signal, alive }) => {
      const hash = createHash('sha256').update(bytes).digest('hex')
      const body = Readable.from(pieces(bytes, alive), { objectMode: false, highWaterMark: BODY_PIECE })
      const command = new PutObjectCommand({ Bucket: this.#place.bucket, Key: this.#keyOf(handle), Body: body, ContentLength: bytes.length, ContentType: 'application/octet-stream' })
      command.middlewareStack.add(next => args => {
        (args.request as { headers: Record<string, string> }).headers['x-amz-content-sha256'] = hash
        return next(args)
      }, { step: 'build', name: 'hashOfContents' })
      await this.#client.send(command, { abortSignal: signal })
      alive()
    })
  }

  /** A store does not say whether there was one. */
  remove(handle: Handle, options: SaveOptions = {}): Promise<void> {
    return this.#request(options, fileName(handle), async ({ signal }) => {
      await this.#client.send(new DeleteObjectCommand({ Bucket: this.#place.bucket, Key: this.#keyOf(handle) }), { abortSignal: signal })
    })
  }

  async close(): Promise<void> { this.#client.destroy() }

  #request<T>(options: ReadOptions, file: string | null, request: (current: Attempt) => Promise<T>): Promise<T> {
    return attempt(this.location, options, async current => {
      try {
        return await request(current)
      } catch (error) {
        throw s3Error(this.location, this.#place, file, error)
      }
    })
  }

  async #get(handle: Handle, { signal, alive }: Attempt, range?: string): Promise<GetObjectCommandOutput & { body: Readable }> {
    const answer = await this.#client.send(new GetObjectCommand({ Bucket: this.#place.bucket, Key: this.#keyOf(handle), Range: range }), { abortSignal: signal })
    alive()
    const body = answer.Body as unknown as Readable
    // The SDK's own interest in the signal ends with the head of the answer.
    const stop = () => body.destroy()
    signal.addEventListener('abort', stop, { once: true })
    body.once('close', () => signal.removeEventListener('abort', stop)).on('error', () => {})
    return { ...answer, body }
  }

  async #size(handle: Handle, { signal, alive }: Attempt): Promise<number> {
    const { ContentLength: size } = await this.#client.send(new HeadObjectCommand({ Bucket: this.#place.bucket, Key: this.#keyOf(handle) }), { abortSignal: signal })
    alive()
    if (size === undefined) throw new DaybookError('ERR_UNREACHABLE', `${this.location} does not say how long ${fileName(handle)} is`)
    return size
  }

  #keyOf({ type, name }: Handle): string {
    if (type === 'config') return this.#key('config')
    // A name comes from stored files; it must not lead anywhere else.
    if (!isIdName(name)) throw new DaybookError('ERR_USAGE', `not a file name of a repository: ${JSON.stringify(name)}`)
    return this.#key(type === 'data' ? `data/${name.slice(0, 2)}/${name}` : `${type}/${name}`)
  }

  #key(path: string): string { return this.#place.prefix === '' ? path : `${this.#place.prefix}/${path}` }
}

/** A file of the repository by its path below the folder of its type; null: something else. */
function nameOf(type: FileType, path: string): string | null {
  const name = type === 'data' && path[2] === '/' ? path.slice(3) : path
  return isIdName(name) && (name === path || path.startsWith(name.slice(0, 2))) ? name : null
}

function* pieces(bytes: Buffer, taken: () => void): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += BODY_PIECE) {
    taken()
    yield bytes.subarray(at, at + BODY_PIECE)
  }
}

function discard<T>(body: Readable, error: T): T {
  body.destroy()
  return error
}
