import { DaybookError } from '../errors.js'
import { abortedError, throwIfAborted } from '../util/abort.js'
import { silentLogger, type Logger } from '../util/log.js'
import { AroundBackend } from './around.js'
import { MAX_TIMER_MS, seconds } from './attempt.js'
import type { LocationHealth, ReadBackend, ReadOptions } from './backend.js'

export interface RetryOptions {
  /** a remote from which nothing has come for that long is given up; Infinity: never */
  timeoutMs: number
  log?: Logger
  /** for tests: 0 to 1 */
  random?: () => number
}

const FIRST_DELAY_MS = 250
const MAX_DELAY_MS = 8000
/** A remote that begins to answer each time and then breaks off is no use, however alive it is. */
const MAX_ATTEMPTS = 12
/** A connection that died silently (a firewall that forgot it) is noticed and replaced while there is still time. */
const ATTEMPTS_IN_TIMEOUT = 3
/** Where nothing has ever answered, the address is wrong more often than the server is about to start. */
const FIRST_CONTACT_MS = 5000
/**
 * A remote that was given up once, and has been silent since, is not waited for as long again: the kernel asks a second time for what it did not get,
 * and a file manager for the next file.
 */
const SHARE_WHEN_DEAD = 10
const MIN_WHEN_DEAD_MS = 1000
/** A timer that comes so late: it was this process that stood still (SIGSTOP, a machine that was paused), and not the remote that was silent. */
const ASLEEP_MS = 1000
const REFUSALS = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH'])

/**
 * Tries again what may pass, after pauses that double and differ at random, so that many clients of a server that comes back do not come all at once.
 *
 * A request fails with ERR_UNREACHABLE when it has failed for `timeoutMs`, or when for that long nothing has come from the remote for anybody while
 * it waited: also one that waits for its turn behind others must not wait once for each of them.
 */
export class RetryBackend extends AroundBackend {
  readonly readRanges: ReadBackend['readRanges']
  readonly #timeoutMs: number
  readonly #log: Logger
  readonly #random: () => number
  /** when something last came; performance.now() */
  #aliveAt = -Infinity
  #failing = false
  /** given up, and silent since */
  #dead = false
  #closed = false
  #downSinceMs: number | null = null
  #lastError: LocationHealth['lastError'] = null
  #answers = 0
  #failures = 0
  readonly #watches = new Set<Watch>()
  /** those who sleep because the server was not there */
  readonly #refused = new Set<() => void>()

  constructor(inner: ReadBackend, { timeoutMs, log = silentLogger, random = Math.random }: RetryOptions) {
    super(inner)
    this.#timeoutMs = timeoutMs
    this.#log = log
    this.#random = random
    // What does not arrive so is read by itself, and tried again then.
    if (inner.readRanges !== undefined) this.readRanges = (ranges, into, options) => inner.readRanges!(ranges, into, options)
  }

  protected override async around<T>(options: ReadOptions, request: (options: ReadOptions) => Promise<T>): Promise<T> {
    throwIfAborted(options.signal)
    if (this.#closed) throw abortedError()
    const timeoutMs = this.#dead ? Math.min(this.#timeoutMs, Math.max(MIN_WHEN_DEAD_MS, this.#timeoutMs / SHARE_WHEN_DEAD)) : this.#timeoutMs
    const watch = new Watch(options.signal, timeoutMs, () => this.#aliveAt)
    this.#watches.add(watch)
    let failingSince: number | null = null
    let aliveAt = performance.now()
    const alive = () => {
      this.#aliveAt = aliveAt = performance.now()
      this.#dead = false
      failingSince = null
      options.alive?.()
    }
    try {
      for (let attempts = 1; ; attempts++) {
        const left = failingSince === null ? timeoutMs : timeoutMs - (performance.now() - failingSince)
        const idleMs = Math.max(1, Math.min(timeoutMs / ATTEMPTS_IN_TIMEOUT, left))
        try {
          const result = await watch.race(request({ ...options, signal: watch.signal, idleMs, alive }))
          this.#answered()
          this.#up()
          return result
        } catch (error) {
          this.#note(error, options.signal)
          if (watch.ended || !(error instanceof DaybookError) || !error.retryable) throw error
          watch.reason = error
          // It began to fail when something came last; while it waited for its turn it did not fail.
          failingSince ??= Math.max(aliveAt, performance.now() - idleMs)
          const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (attempts - 1)) * (0.5 + this.#random() / 2)
          const patienceMs = this.#patienceMs(error, timeoutMs)
          if (attempts === MAX_ATTEMPTS || performance.now() + delay - failingSince >= patienceMs) throw error
          this.#failed(error, patienceMs)
          await watch.race(this.#pause(delay, REFUSALS.has(causeCode(error))))
        }
      }
    } catch (error) {
      if (options.signal?.aborted || this.#closed) throw abortedError(options.signal)
      if (error instanceof DaybookError && !error.retryable) this.#answered()
      else if (performance.now() - this.#aliveAt >= timeoutMs) this.#dead = true
      if (!watch.ended) throw error
      this.#note(watch.reason ?? this.#silent(), options.signal)
      throw watch.reason ?? this.#silent()
    } finally {
      watch.close()
      this.#watches.delete(watch)
    }
  }

  /** Nothing is tried again for those who still wait. */
  override async close(): Promise<void> {
    this.#closed = true
    for (const watch of this.#watches) watch.finish(abortedError())
    await super.close()
  }

  /** Where there are several locations behind it, theirs. */
  override health(): LocationHealth[] {
    const inner = super.health()
    if (inner.length > 0) return inner
    return [{
      location: this.location, state: this.#downSinceMs === null ? 'up' : 'down', sinceMs: this.#downSinceMs, lastError: this.#lastError,
      answers: this.#answers, failures: this.#failures, overtaken: 0, missing: 0, damaged: 0,
    }]
  }

  #up(): void {
    this.#answers++
    this.#downSinceMs = null
  }

  /** What an error says of the location: one that answers has answered, whatever it said of the file. One that must not be used may as well be away. */
  #note(error: unknown, signal: AbortSignal | undefined): void {
    if (signal?.aborted || this.#closed || !(error instanceof DaybookError) || error.code === 'ERR_ABORTED') return
    if (error.code !== 'ERR_UNREACHABLE') return this.#up()
    const timeMs = Date.now()
    this.#failures++
    this.#downSinceMs ??= timeMs
    this.#lastError = { timeMs, message: error.message }
  }

  /** Who was refused sleeps no longer than until somebody is answered: the server is there again. Who got an answer he could not use gives it time. */
  #pause(delayMs: number, refused: boolean): Promise<void> {
    return new Promise(resolve => {
      const go = () => {
        clearTimeout(timer)
        this.#refused.delete(go)
        resolve()
      }
      const timer = setTimeout(go, delayMs)
      if (refused) this.#refused.add(go)
    })
  }

  #patienceMs(error: Error, timeoutMs: number): number {
    const wrongAddress = this.#aliveAt === -Infinity && REFUSALS.has(causeCode(error))
    return wrongAddress ? Math.min(FIRST_CONTACT_MS, timeoutMs) : timeoutMs
  }

  #answered(): void {
    this.#aliveAt = performance.now()
    if (this.#failing) this.#log.info(`${this.location} answers again`)
    this.#failing = this.#dead = false
    for (const go of this.#refused) go()
  }

  #failed(error: Error, patienceMs: number): void {
    if (this.#failing) this.#log.debug(`trying again: ${error.message}`)
    else this.#log.warn(`${error.message}; trying again${Number.isFinite(patienceMs) ? ` for ${seconds(patienceMs)}` : ''}`)
    this.#failing = true
  }

  #silent(): Error {
    return new DaybookError('ERR_UNREACHABLE', `no answer from ${this.location} for ${seconds(this.#timeoutMs)}`, 'is the server there, and the network? --timeout sets how long to wait')
  }
}

/** Ends a request when its caller gives up, or when the remote has been silent for too long. */
class Watch {
  /** of the last failure */
  reason: Error | null = null
  ended = false
  readonly #stop = new AbortController()
  readonly #started = performance.now()
  readonly #signal: AbortSignal | undefined
  readonly #end: Promise<never>
  #reject!: (error: Error) => void
  #timer: NodeJS.Timeout | null = null
  readonly #giveUp = () => this.finish(abortedError(this.#signal))

  constructor(signal: AbortSignal | undefined, timeoutMs: number, aliveAt: () => number) {
    this.#signal = signal
    this.#end = new Promise((_, reject) => { this.#reject = reject })
    this.#end.catch(() => {})
    signal?.addEventListener('abort', this.#giveUp, { once: true })
    if (Number.isFinite(timeoutMs)) this.#look(timeoutMs, aliveAt)
  }

  get signal(): AbortSignal { return this.#stop.signal }

  /** The outcome, unless the end comes first. */
  race<T>(promise: Promise<T>): Promise<T> {
    promise.catch(() => {})
    return Promise.race([promise, this.#end])
  }

  close(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#signal?.removeEventListener('abort', this.#giveUp)
  }

  #look(timeoutMs: number, aliveAt: () => number, since = this.#started): void {
    const now = performance.now()
    const left = Math.max(since, aliveAt()) + timeoutMs - now
    if (left > 0) {
      const waitMs = Math.min(Math.ceil(left), MAX_TIMER_MS)
      this.#timer = setTimeout(() => {
        const woke = performance.now()
        this.#look(timeoutMs, aliveAt, woke - now - waitMs > ASLEEP_MS ? woke : since)
      }, waitMs)
      return
    }
    this.finish(new Error('timed out'))
  }

  finish(error: Error): void {
    this.ended = true
    this.#reject(error)
    this.#stop.abort()
  }
}

function causeCode(error: Error): string {
  return String((error.cause as { code?: unknown } | undefined)?.code ?? '')
}
