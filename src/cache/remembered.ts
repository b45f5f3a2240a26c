import type { FileInfo, ReadBackend, ReadOptions } from '../backend/backend.js'
import { DaybookError } from '../errors.js'
import type { Logger } from '../util/log.js'
import type { DiskCache } from './disk/disk-cache.js'

export interface RememberedOptions {
  log: Logger
  startWithout: boolean
  graceMs?: number
}

type Listed = 'keys' | 'snapshots' | 'index'

/** A remote in another part of the world answers in a fraction of it; a person who waits for a mount waits that long without wondering. */
const GRACE_MS = 2000
const FIRST_PROBE_MS = 1000
/** Between two times for which the backend itself tries again. */
const MAX_PROBE_MS = 15_000
const CONFIG = { type: 'config', name: '' } as const

/**
 * What changes in a repository: its config and the lists of its files. The remote has the word; what it said last is remembered. Until it has answered
 * once, a mount takes what is remembered for an answer, and asks in the background until it does.
 */
export class Remembered {
  readonly #inner: ReadBackend
  readonly #disk: DiskCache
  readonly #log: Logger
  readonly #startWithout: boolean
  readonly #graceMs: number
  readonly #abort = new AbortController()
  readonly #listeners: (() => void)[] = []
  #state: 'unknown' | 'here' | 'away' = 'unknown'
  #wasAway = false

  constructor(inner: ReadBackend, disk: DiskCache, { log, startWithout, graceMs = GRACE_MS }: RememberedOptions) {
    this.#inner = inner
    this.#disk = disk
    this.#log = log
    this.#startWithout = startWithout
    this.#graceMs = graceMs
  }

  onBack(listener: () => void): void {
    this.#listeners.push(listener)
    if (this.#wasAway && this.#state === 'here') listener()
  }

  close(): void { this.#abort.abort() }

  list(type: Listed, options: ReadOptions): Promise<FileInfo[]> {
    return this.#ask(() => this.#inner.list(type, options), async () => decodeList(await this.#disk.known(this.#inner.location, type)), files => this.#keepList(type, files))
  }

  config(maxLength: number, options: ReadOptions): Promise<Buffer> {
    return this.#ask(() => this.#inner.readAll(CONFIG, maxLength, options), async () => {
      const known = await this.#disk.known(this.#inner.location, 'config')
      return known !== null && known.length <= maxLength ? known : null
    }, bytes => this.#disk.putKnown(this.#inner.location, 'config', Buffer.from(bytes)))
  }

  async #ask<T>(request: () => Promise<T>, remembered: () => Promise<T | null>, remember: (answer: T) => Promise<void>): Promise<T> {
    if (this.#state === 'away') {
      const known = await remembered()
      if (known !== null) return known
    }
    const asked = request().then(answer => {
      this.answered()
      void remember(answer)
      return answer
    })
    if (!this.#startWithout || this.#state === 'here') return asked
    const failure = await Promise.race([asked.then(() => null, (error: Error) => error), sleep(this.#graceMs).then(() => new Error('no answer yet'))])
    if (failure === null || failure instanceof DaybookError && !failure.retryable) return asked
    const known = await remembered()
    if (known === null) return asked
    asked.catch(() => {})
    this.#goWithout(failure)
    return known
  }

  /** Something came from the remote. */
  answered(): void {
    if (this.#state === 'here') return
    const wasAway = this.#state === 'away'
    this.#state = 'here'
    if (!wasAway) return
    this.#log.info(`${this.#inner.location} answers`)
    for (const listener of this.#listeners) listener()
  }

  #goWithout(failure: Error): void {
    if (this.#state !== 'unknown') return
    this.#state = 'away'
    this.#wasAway = true
    this.#log.warn(`${this.#inner.location} does not answer: going on with what is known of it, and asking again in the background`, { reason: failure.message })
    void this.#probe()
  }

  /** Never rejects. */
  async #probe(): Promise<void> {
    const { signal } = this.#abort
    for (let delay = FIRST_PROBE_MS; this.#state === 'away' && !signal.aborted; delay = Math.min(delay * 2, MAX_PROBE_MS)) {
      await sleep(delay)
      if (signal.aborted || this.#state !== 'away') return
      try {
        const files = await this.#inner.list('snapshots', { signal })
        await this.#keepList('snapshots', files)
        this.answered()
      } catch (error) {
        this.#log.debug(`still without ${this.#inner.location}`, { error })
      }
    }
  }

  async #keepList(type: Listed, files: FileInfo[]): Promise<void> {
    const { location } = this.#inner
    const before = decodeList(await this.#disk.known(location, type))
    const listed = new Set(files.map(({ name }) => name))
    const gone = before?.filter(({ name }) => !listed.has(name)) ?? []
    if (before !== null && gone.length === 0 && before.length === files.length) return
    await this.#disk.putKnown(location, type, Buffer.from(JSON.stringify(files.map(({ name, size }) => [name, size]))))
    await this.#disk.dropFiles(gone.map(({ name }) => name))
  }
}

function decodeList(bytes: Buffer | null): FileInfo[] | null {
  if (bytes === null) return null
  try {
    return (JSON.parse(bytes.toString()) as [string, number][]).map(([name, size]) => ({ name, size }))
  } catch {
    return null
  }
}

function sleep(ms: number): Promise<void> { return new Promise(resolve => setTimeout(resolve, ms).unref()) }
