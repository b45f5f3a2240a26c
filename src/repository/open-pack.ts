import { randomBytes } from 'node:crypto'
import { close, closeSync, constants, openSync, read, unlinkSync, write } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { DaybookError } from '../errors.js'
import { encodePackHeader, HEADER_LENGTH_SIZE, MAX_PACK_HEADER_LENGTH, packEntryLength, type PackEntry } from '../format/pack-header.js'
import { BLOB_OVERHEAD } from '../format/limits.js'
import { native } from '../native.js'

/** A pack is closed when it has grown to this, as restic's. */
export const PACK_LENGTH = 16 << 20
/** Behind a pack that is just short of being full: the longest chunk, and the header. What is not touched costs nothing. */
const MAX_REST = 10 << 20

/**
 * A pack that is being filled, in a temporary file without a name: several are open at once, and in memory each would take what all else does. What is in it is encrypted.
 */
export class OpenPack {
  readonly entries: PackEntry[] = []
  #length = 0
  #headerLength = BLOB_OVERHEAD
  readonly #writes = new Set<Promise<void>>()
  #failure: { error: unknown } | null = null

  readonly fd: number
  #closed = false

  /**
   * Not a promise: between the choice of a pack and the place in it, nobody else may have his turn.
   * @throws DaybookError ERR_UNREACHABLE if there is no place for temporary files
   */
  constructor(readonly type: 'data' | 'tree') {
    const path = join(tmpdir(), `daybook-pack-${randomBytes(8).toString('hex')}`)
    try {
      this.fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
    } catch (error) {
      throw temporaryError(error)
    }
    try {
      unlinkSync(path)
    } catch (error) {
      closeSync(this.fd)
      throw temporaryError(error)
    }
  }

  get length(): number { return this.#length }
  get full(): boolean { return this.#length >= PACK_LENGTH || this.#headerLength > MAX_PACK_HEADER_LENGTH - 100 }

  /** Make room for a blob. @returns where it is to be written */
  place(id: Buffer, length: number, plainLength: number): number {
    const offset = this.#length
    this.entries.push({ id, type: this.type, offset, length, plainLength })
    this.#length += length
    this.#headerLength += packEntryLength(plainLength)
    return offset
  }

  /** The pack is not sealed before this is over. */
  writing(write: Promise<void>): void {
    const done: Promise<void> = write.catch(error => { this.#failure ??= { error } }).finally(() => { this.#writes.delete(done) })
    this.#writes.add(done)
  }

  /** Take in all of another one. */
  async merge(other: OpenPack): Promise<void> {
    const bytes = await other.#read(Buffer.allocUnsafeSlow(other.length))
    const { length } = this
    for (const { id, length, plainLength } of other.entries) this.place(id, length, plainLength)
    await writeAll(this.fd, bytes, length)
    await other.close()
  }

  /** Close it with its header. @param memory to put it into, if there is room; else other memory is taken @returns its name, and its bytes at the front of `memory` */
  async seal(keys: Uint8Array, memory?: Buffer): Promise<{ name: string, bytes: Buffer, memory: Buffer }> {
    const blobsLength = this.#length
    const header = await native.encryptFile(keys, encodePackHeader(this.entries), null)
    // What came later would be in no header.
    if (this.#length !== blobsLength) throw new Error('a blob was put into a pack that was being sealed')
    const length = blobsLength + header.length + HEADER_LENGTH_SIZE
    const target = memory !== undefined && memory.length >= length ? memory : Buffer.allocUnsafeSlow(Math.max(length, PACK_LENGTH + MAX_REST))
    await this.#read(target)
    await this.close()
    header.copy(target, this.#length)
    target.writeUInt32LE(header.length, this.#length + header.length)
    const bytes = target.subarray(0, length)
    return { name: (await native.sha256(bytes)).toString('hex'), bytes, memory: target }
  }

  async close(): Promise<void> {
    while (this.#writes.size > 0) await Promise.all(this.#writes)
    if (this.#closed) return
    this.#closed = true
    await promisify(close)(this.fd)
  }

  async #read(target: Buffer): Promise<Buffer> {
    while (this.#writes.size > 0) await Promise.all(this.#writes)
    if (this.#failure !== null) throw temporaryError(this.#failure.error)
    for (let at = 0; at < this.#length;) {
      const { bytesRead } = await promisify(read)(this.fd, target, at, this.#length - at, at)
      if (bytesRead === 0) throw new DaybookError('ERR_UNREACHABLE', `a temporary file in ${tmpdir()} has lost what was in it`)
      at += bytesRead
    }
    return target
  }
}

async function writeAll(fd: number, bytes: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += (await promisify(write)(fd, bytes, at, bytes.length - at, offset + at).catch(error => { throw temporaryError(error) })).bytesWritten
  }
}

function temporaryError(error: unknown): unknown {
  if (error instanceof DaybookError) return error
  const { code } = error as NodeJS.ErrnoException
  return new DaybookError('ERR_UNREACHABLE', `cannot write temporary files in ${tmpdir()}: ${code ?? (error as Error).message}`, 'packs of 16 MiB are collected there; TMPDIR names another place', { cause: error })
}
