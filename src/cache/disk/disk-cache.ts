import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, readFile, rename, unlink, utimes, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ownDirectory, tagCacheDirectory } from '../../util/cache-directory.js'
import type { Logger } from '../../util/log.js'
import { Layout, TEMPORARY } from './layout.js'
import type { PackFile } from './pack-file.js'
import { PackFiles, type PackFilesOptions } from './pack-files.js'
import { Quota } from './quota.js'
import { WriteQueue, type Write } from './write-queue.js'

export interface DiskCacheOptions extends Pick<PackFilesOptions, 'max' | 'idleMs' | 'trustMs'> {
  /** the folder that also holds the indexes */
  cacheDir: string
  /** bytes on disk, of all processes that use the folder; null: a share of the file system. 0: no packs are kept */
  maxBytes: number | null
  log: Logger
  /** bytes in memory on their way to the disk */
  queueBytes?: number
  /** after a failure nothing is written for that long */
  pauseMs?: number
  /** at most that often, what is used is marked as used */
  touchMs?: number
}

const QUEUE_BYTES = 16 << 20
const PAUSE_MS = 30_000
const TOUCH_MS = 60_000
/** A disk that takes less than a line of 16 MiB/s brings is not waited for. */
const PATIENCE_MS_PER_MIB = 60
/** By somebody who reads for the cache's sake: 5 MiB/s. He leaves room to those who do not wait for it. */
const KEEP_MS_PER_MIB = 200
const KEEP_SHARE = 1 / 2
const CLOSE_MS = 2000
const MAX_AHEAD = 64 << 20
/** Of the quota, which others use as well. */
const AHEAD_SHARE = 1 / 8
/** Longer files are not compared with their name here: whoever reads them does that. */
const MAX_HASHED = 1 << 20
/** What a stretch takes more than its length: parts of blocks, and its record. */
const BLOCK = 4096
const FULL = new Set(['ENOSPC', 'EDQUOT'])

/**
 * Encrypted bytes of repositories on the local disk. Its state is never an error: what it does not have, or cannot keep, is fetched. What it gives out is what
 * was put in, or not: who asks has to check (MAC, SHA-256), and to put it in again.
 */
export class DiskCache {
  readonly packs: PackFiles
  readonly quota: Quota
  readonly keepsPacks: boolean
  readonly #layout: Layout
  readonly #cacheDir: string
  readonly #log: Logger
  readonly #queue: WriteQueue
  readonly #pauseMs: number
  readonly #touchMs: number
  #pausedUntil = -Infinity
  #failing = false
  #prepared = false
  #closed = false

  constructor(options: DiskCacheOptions) {
    const { cacheDir, maxBytes, log, queueBytes = QUEUE_BYTES, pauseMs = PAUSE_MS, touchMs = TOUCH_MS } = options
    this.#cacheDir = cacheDir
    this.#log = log
    this.#pauseMs = pauseMs
    this.#touchMs = touchMs
    this.keepsPacks = maxBytes !== 0
    const layout = this.#layout = new Layout(cacheDir)
    this.packs = new PackFiles({ ...options, layout, prepare: () => this.#prepareAnew(), onError: error => this.#failed('read', error) })
    this.quota = new Quota({ layout, maxBytes: maxBytes === 0 ? null : maxBytes, onEvicted: name => this.packs.forget(name) })
    this.#queue = new WriteQueue(queueBytes, write => this.#write(write))
  }

  /** Put bytes of a pack on their way to the disk. They are copied: at once, or when the promise resolves. */
  put(name: string, kind: 'data' | 'trees', offset: number, bytes: Buffer, keep = false): Promise<void> | null {
    if (!this.keepsPacks || this.#closed || this.#isPaused) return null
    if (this.quota.over) return void this.quota.settle(), null
    const share = keep ? KEEP_SHARE : 1
    if (this.#queue.put(name, kind, offset, bytes, share)) return null
    return this.#queue.room(bytes.length, bytes.length / (1 << 20) * (keep ? KEEP_MS_PER_MIB : PATIENCE_MS_PER_MIB), share).then(() => { this.#queue.put(name, kind, offset, bytes) })
  }

  /** How many bytes are sure to be here still when they are wanted a little later. */
  get ahead(): number { return this.#failing || this.#isPaused || this.quota.over ? 0 : Math.min(MAX_AHEAD, this.quota.known * AHEAD_SHARE) }

  /** As far as is known: is this stretch here, or on its way? */
  has(name: string, offset: number, length: number): boolean {
    const end = offset + length
    const missing = this.packs.get(name)?.holes(offset, end) ?? [[offset, end]]
    return missing.every(([from, to]) => this.#queue.has(name, from, to - from))
  }

  /** Bytes on their way. */
  readQueued(name: string, offset: number, into: Buffer): boolean { return this.#queue.read(name, offset, into) }

  /** It has been read. */
  used(file: PackFile): void { file.touch(performance.now(), this.#touchMs) }

  /** A pack's file is of no use. */
  unreadable(name: string, error: unknown): void {
    this.packs.forget(name)
    this.#failed('read', error as NodeJS.ErrnoException)
  }

  /** A file that is named by its SHA-256. */
  async file(name: string): Promise<Buffer | null> {
    const path = this.#layout.file(name)
    const bytes = await this.#read(path)
    if (bytes === null) return null
    if (bytes.length === 0 || bytes.length <= MAX_HASHED && sha256(bytes) !== name) {
      await unlink(path).catch(() => {})
      return null
    }
    const now = new Date()
    utimes(path, now, now).catch(() => {})
    return bytes
  }

  async putFile(name: string, bytes: Buffer): Promise<void> {
    if (bytes.length <= MAX_HASHED && sha256(bytes) !== name) return
    await this.#replace(this.#layout.file(name), bytes)
  }

  /** The repository does not have them any more. */
  async dropFiles(names: Iterable<string>): Promise<void> {
    for (const name of names) await unlink(this.#layout.file(name)).catch(() => {})
  }

  /** What was last said of a location, with a checksum over it. */
  async known(location: string, what: string): Promise<Buffer | null> {
    const bytes = await this.#read(this.#layout.known(sha256(location), what))
    if (bytes === null || bytes.length < 64 || sha256(bytes.subarray(64)) !== bytes.toString('latin1', 0, 64)) return null
    return bytes.subarray(64)
  }

  async putKnown(location: string, what: string, bytes: Buffer): Promise<void> {
    await this.#replace(this.#layout.known(sha256(location), what), Buffer.concat([Buffer.from(sha256(bytes), 'latin1'), bytes]))
  }

  /** All that was put has been written, or given up. */
  async settled(): Promise<void> {
    await this.#queue.drained()
    await this.quota.settle()
  }

  /** What is on its way is given a moment. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    let timer!: NodeJS.Timeout
    const patience = new Promise<void>(resolve => { timer = setTimeout(resolve, CLOSE_MS) })
    await Promise.race([this.settled(), patience])
    clearTimeout(timer)
    this.#queue.drop()
    await this.packs.close()
  }

  get #isPaused(): boolean { return performance.now() < this.#pausedUntil }

  /** Never rejects. */
  async #write(write: Write, again = false): Promise<void> {
    if (this.#isPaused) return
    const { name, kind, offset, chunks } = write
    try {
      const file = await this.packs.create(name, kind)
      file.hold()
      const added = await file.write(offset, chunks).finally(() => file.release())
      this.#succeeded()
      if (added > 0) void this.quota.grown(added + BLOCK)
    } catch (error) {
      this.#prepared = false
      this.packs.forget(name)
      const full = FULL.has((error as NodeJS.ErrnoException).code ?? '')
      if (full && !again && await this.quota.diskFull()) return this.#write(write, true)
      this.#failed('write', error as NodeJS.ErrnoException)
      this.#pausedUntil = performance.now() + this.#pauseMs
      this.#queue.drop()
    }
  }

  async #replace(path: string, bytes: Buffer): Promise<void> {
    if (this.#closed || this.#isPaused) return
    const temporary = `${path}${TEMPORARY}${process.pid}-${Math.random().toString(36).slice(2)}`
    const write = async () => {
      await writeFile(temporary, bytes, { mode: 0o600, flag: 'wx' })
      await rename(temporary, path)
    }
    try {
      this.#prepare()
      await write().catch(async error => {
        if (error.code !== 'ENOENT') throw error
        this.#prepareAnew()
        for (const folder of [dirname(dirname(path)), dirname(path)]) await this.#mkdir(folder)
        await write()
      })
      void this.quota.grown(bytes.length + BLOCK)
    } catch (error) {
      this.#prepared = false
      unlink(temporary).catch(() => {})
      this.#failed('write', error as NodeJS.ErrnoException)
    }
  }

  async #mkdir(path: string): Promise<void> {
    await mkdir(path, { mode: 0o700 }).catch(error => { if (error.code !== 'EEXIST') throw error })
  }

  async #read(path: string): Promise<Buffer | null> {
    try {
      const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
      try { return await readFile(file) } finally { await file.close() }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT' && code !== 'ENOTDIR') this.#failed('read', error as NodeJS.ErrnoException)
      return null
    }
  }

  /** The folders that are always there. @throws errors of node:fs */
  #prepare(): void {
    if (this.#prepared) return
    ownDirectory(this.#cacheDir)
    tagCacheDirectory(this.#cacheDir)
    for (const path of [this.#layout.root, dirname(this.#layout.folder('data')), this.#layout.folder('data'), this.#layout.folder('trees')]) ownDirectory(path)
    this.#prepared = true
  }

  /** Somebody removed them. */
  #prepareAnew(): void {
    this.#prepared = false
    this.#prepare()
  }

  #failed(what: 'read' | 'write', error: NodeJS.ErrnoException): void {
    if (this.#closed) return
    const message = `the disk cache cannot be ${what === 'read' ? 'read' : 'written to'}: the mount works without it`
    if (this.#failing) return this.#log.debug(message, { error })
    this.#failing = true
    this.#log.warn(message, { directory: this.#cacheDir, reason: error.code ?? error.message })
  }

  #succeeded(): void {
    if (!this.#failing) return
    this.#failing = false
    this.#log.info('the disk cache is written to again')
  }
}

function sha256(bytes: Buffer | string): string { return createHash('sha256').update(bytes).digest('hex') }
