import { CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { throwIfAborted } from '../util/abort.js'
import { silentLogger, type Logger } from '../util/log.js'
import { MAX_TIMER_MS, seconds } from './attempt.js'
import type { Handle, LocationHealth, ReadBackend, ReadOptions } from './backend.js'
import { fileName } from './file-name.js'
import { Latencies } from './latencies.js'

const CONFIG: Handle = { type: 'config', name: '' }
const MAX_CONFIG_BYTES = 1 << 20
/** One reset connection is no outage. What refuses connections is down at once. */
const FAILURES_UNTIL_DOWN = 3
const REFUSALS = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH'])
const SILENCE_MS = 500
const FIRST_PROBE_MS = 1000
const MAX_PROBE_MS = 30_000
const PROBE_IDLE_MS = 5000
/** Each is a line in the log; of more, only the number counts. */
const MAX_DAMAGED_NAMED = 1000

export interface ReplicaLocationOptions {
  log?: Logger
  /** for tests: what a probe waits first, at most */
  probeMs?: number
}

/**
 * One location of a repository that has several: is it in use, how fast does it answer, and what is wrong with what it holds?
 *
 * It is down after some failures in a row, or when it is as often silent while others answer. Then its config is read from time to time, in the background,
 * and with the first success it is in use again.
 */
export class ReplicaLocation {
  state: LocationHealth['state'] = 'up'
  readonly latencies = new Latencies()
  /** when something last came from it; performance.now() */
  aliveAt = -Infinity
  downSince = -Infinity
  readonly #log: Logger
  readonly #firstProbeMs: number
  #failuresInARow = 0
  #probeDelayMs = 0
  #probe: NodeJS.Timeout | null = null
  #isSame: ((config: Buffer) => Promise<boolean>) | null = null
  /** it holds the repository that was opened */
  #checked = false
  #checking = false
  readonly #abort = new AbortController()
  readonly #damaged = new Set<string>()
  #downSinceMs: number | null = null
  #lastError: LocationHealth['lastError'] = null
  #answers = 0
  #failures = 0
  #overtaken = 0
  #missing = 0

  constructor(readonly backend: ReadBackend, { log = silentLogger, probeMs = FIRST_PROBE_MS }: ReplicaLocationOptions = {}) {
    this.#log = log
    this.#firstProbeMs = probeMs
  }

  get name(): string { return this.backend.location }
  get sources(): number { return this.backend.sources ?? 1 }
  /** What a read takes mostly; null: not known yet. */
  p95(length: number): number | null { return this.latencies.p95(length) }

  /**
   * A request, and what its outcome says about the location. It fails when for `idleMs` nothing has come from here, for anybody: also where a backend cannot notice
   * (a folder on a dead NFS server). @param length of a read, to know how long such reads take
   */
  async ask<T>(request: (backend: ReadBackend, options: ReadOptions) => Promise<T>, options: ReadOptions, length?: number): Promise<T> {
    const { signal, idleMs = Infinity } = options
    throwIfAborted(signal)
    const started = performance.now()
    const stop = new AbortController()
    const giveUp = () => stop.abort(signal!.reason)
    signal?.addEventListener('abort', giveUp, { once: true })
    const alive = () => {
      this.aliveAt = performance.now()
      options.alive?.()
    }
    let timer: NodeJS.Timeout | undefined
    try {
      const asked = request(this.backend, { ...options, signal: stop.signal, alive })
      const result = await (idleMs === Infinity ? asked : Promise.race([asked, new Promise<never>((_, reject) => {
        const look = () => {
          const left = Math.max(started, this.aliveAt) + idleMs - performance.now()
          if (left > 0) timer = setTimeout(look, Math.min(Math.ceil(left), MAX_TIMER_MS))
          else reject(new DaybookError('ERR_UNREACHABLE', `no answer from ${this.name} for ${seconds(idleMs)}`))
        }
        look()
      })]))
      if (signal?.aborted) return result
      if (length !== undefined) this.latencies.add(length, performance.now() - started)
      this.#answered()
      return result
    } catch (error) {
      if (signal?.aborted) throw error
      stop.abort(error)
      if (isUnreachable(error)) this.failed(error as Error)
      else this.#answered()
      throw error
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', giveUp)
    }
  }

  /** Another location has answered meanwhile. A slow answer now and then is no outage; silence is the beginning of one. */
  overtaken(waitedMs: number): void {
    this.#overtaken++
    if (Math.min(waitedMs, performance.now() - this.aliveAt) >= SILENCE_MS) this.#strike(() => `${this.name} does not answer`)
  }

  failed(error: Error): void {
    this.#failures++
    this.#lastError = { timeMs: Date.now(), message: error.message }
    this.#strike(() => error.message, REFUSALS.has(String((error.cause as { code?: unknown } | undefined)?.code)))
  }

  lacks(handle: Handle): void {
    this.#missing++
    this.#log.debug(`${fileName(handle)} is not at ${this.name}`)
  }

  /** Bytes of it were wrong. Said once per file. */
  gaveWrong(handle: Handle, reason: string): void {
    const file = fileName(handle)
    if (this.#damaged.has(file) || this.#damaged.size >= MAX_DAMAGED_NAMED) return
    this.#damaged.add(file)
    this.#log.warn(`${file} is damaged at ${this.name}: ${reason}`, { location: this.name, damaged: file })
  }

  /** See Replicas. */
  check(isSame: (config: Buffer) => Promise<boolean>): void {
    this.#isSame = isSame
    if (this.state === 'up') void this.#look()
  }

  health(): LocationHealth {
    return {
      location: this.name, state: this.state, sinceMs: this.#downSinceMs, lastError: this.#lastError,
      answers: this.#answers, failures: this.#failures, overtaken: this.#overtaken, missing: this.#missing, damaged: this.#damaged.size,
    }
  }

  async close(): Promise<void> {
    this.#abort.abort()
    if (this.#probe !== null) clearTimeout(this.#probe)
    this.#probe = null
    await this.backend.close()
  }

  #answered(): void {
    this.#answers++
    this.#failuresInARow = 0
    this.aliveAt = performance.now()
    if (this.state !== 'down') return
    this.state = 'up'
    this.#downSinceMs = null
    if (this.#probe !== null) clearTimeout(this.#probe)
    this.#probe = null
    this.#log.info(`${this.name} is in use again`)
    if (this.#isSame !== null && !this.#checked) void this.#look()
  }

  #strike(reason: () => string, certain = false): void {
    this.#failuresInARow++
    if (this.state !== 'up' || !certain && this.#failuresInARow < FAILURES_UNTIL_DOWN || this.#abort.signal.aborted) return
    this.state = 'down'
    this.downSince = performance.now()
    this.#downSinceMs = Date.now()
    this.#log.warn(`${reason()}; this location is left alone until it answers again`)
    this.#probeDelayMs = this.#firstProbeMs
    this.#probeLater()
  }

  #probeLater(): void {
    if (this.#probe !== null) clearTimeout(this.#probe)
    this.#probe = setTimeout(() => void this.#look(), this.#probeDelayMs * (0.5 + Math.random() / 2)).unref()
    this.#probeDelayMs = Math.min(MAX_PROBE_MS, this.#probeDelayMs * 2)
  }

  /** Is it there, and does it hold this repository? Never rejects. */
  async #look(): Promise<void> {
    if (this.#checking || this.state === 'refused') return
    this.#checking = true
    const { signal } = this.#abort
    try {
      const config = await this.backend.readAll(CONFIG, MAX_CONFIG_BYTES, { signal, idleMs: PROBE_IDLE_MS })
      if (signal.aborted) return
      if (this.#isSame !== null && !this.#checked) {
        const same = await this.#isSame(config)
        if (signal.aborted) return
        if (!same) return this.#refuse()
        this.#checked = true
      }
      this.#answered()
    } catch (error) {
      if (signal.aborted) return
      if (this.state === 'down') this.#probeLater()
      else this.failed(error instanceof NotFoundError ? holdsNothing(this.name, error) : error as Error)
    } finally {
      this.#checking = false
      // It failed while it was looked at, and no probe is set.
      if (this.state === 'up' && this.#isSame !== null && !this.#checked && !signal.aborted) this.#lookAgain()
    }
  }

  #lookAgain(): void {
    this.#probe ??= setTimeout(() => {
      this.#probe = null
      void this.#look()
    }, this.#firstProbeMs).unref()
  }

  #refuse(): void {
    this.state = 'refused'
    const message = `${this.name} holds another repository, or its config is damaged: it is not used`
    this.#downSinceMs = Date.now()
    this.#lastError = { timeMs: this.#downSinceMs, message }
    this.#log.error(message, { location: this.name })
  }
}

/** Is it the location that does not answer, or not as it should? Else it has answered, whatever it said. */
export function isUnreachable(error: unknown): boolean { return !isDamage(error) && (!(error instanceof DaybookError) || error.code === 'ERR_UNREACHABLE') }

/** Is it this file that cannot be read there? EIO is what a disk says of a bad sector; the rest of it may be well. */
export function isDamage(error: unknown): boolean {
  return error instanceof CorruptError || [error, (error as Error).cause].some(error => (error as NodeJS.ErrnoException | undefined)?.code === 'EIO')
}

export function holdsNothing(location: string, cause?: NotFoundError): DaybookError {
  return new DaybookError('ERR_UNREACHABLE', `there is no repository at ${location}`, 'is its disk still mounted?', { cause })
}
