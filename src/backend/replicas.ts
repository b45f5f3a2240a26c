import { CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { throwIfAborted } from '../util/abort.js'
import type { Logger } from '../util/log.js'
import { Answers } from './answers.js'
import type { FileInfo, FileType, Handle, LocationHealth, Range, ReadBackend, ReadOptions, Replicas } from './backend.js'
import { fileName } from './file-name.js'
import { firstGood, NoneGood } from './first-good.js'
import { Hedges } from './hedges.js'
import { holdsNothing, isDamage, isUnreachable, ReplicaLocation } from './replica-location.js'

export interface ReplicaBackendOptions {
  log?: Logger
  /** for tests: see the constants */
  leastHedgeMs?: number
  silentMs?: number
  probeMs?: number
}

/** A local disk answers within that even when it is busy; sooner, hedging would be noise. */
const LEAST_HEDGE_MS = 50
/** As long as nobody knows how fast a location is: a second, and what the bytes take on a slow line. */
const UNKNOWN_HEDGE_MS = 1000
const UNKNOWN_BYTES_PER_MS = 1 << 10
/** A location from which nothing at all comes for that long is given up for the read that waits; by then its connection is dead, or it is. */
const SILENT_MS = 5000
/** What is damaged or missing and might be had from a location that is down is worth waiting for, for that long after it went down. */
const GRACE_MS = 60_000

/** Bytes of a location: there may be several sources of them behind it. */
interface Source { readonly place: ReplicaLocation, readonly again: number, readonly number: number }

/**
 * A repository that has several locations, in order of preference. A read goes to the first one in use; what fails, is not there or ends too early is read
 * from the next at once, and so is what takes longer than 95 % of such reads do (a small share of all reads). Once bytes have proved wrong, each further
 * source is asked. A location that is down is left alone and probed (replica-location.ts); where nobody else answers, those that are down are asked all at once.
 *
 * The first location's word counts for what exists: replicas are copies of it and may lag behind, in either direction. Its lists are taken alone. While it is down,
 * what the others list is put together and called partial, and nothing is forgotten for its sake. In the same way, a file is not found when the first location
 * says so and the others lack it, too.
 *
 * Each request is tried once per location: who retries is around it, and waits only when no location answers.
 */
export class ReplicaBackend implements ReadBackend, Replicas {
  readonly location: string
  readonly sources: number
  readonly replicas: Replicas = this
  readonly readRanges: ReadBackend['readRanges']
  readonly #places: readonly ReplicaLocation[]
  readonly #sources: readonly Source[]
  readonly #answers = new Answers()
  readonly #hedges = new Hedges()
  readonly #leastHedgeMs: number
  readonly #silentMs: number

  /** @param backends each tries once and ends a request from which nothing comes for `idleMs` */
  constructor(backends: readonly ReadBackend[], { log, leastHedgeMs = LEAST_HEDGE_MS, silentMs = SILENT_MS, probeMs }: ReplicaBackendOptions = {}) {
    const places = this.#places = backends.map(backend => new ReplicaLocation(backend, { log, probeMs }))
    const [first] = backends
    this.location = first.location
    this.#sources = places.flatMap(place => Array.from({ length: place.sources }, (_, again) => ({ place, again }))).map((source, number) => ({ ...source, number }))
    this.sources = this.#sources.length
    this.#leastHedgeMs = leastHedgeMs
    this.#silentMs = silentMs
    if (first.readRanges !== undefined) this.readRanges = (ranges, into, options) => this.#readRanges(ranges, into, options)
  }

  get connections(): number { return (this.#inUse()[0] ?? this.#main).backend.connections }

  check(isSame: (config: Buffer) => Promise<boolean>): void { for (const place of this.#places) place.check(isSame) }
  health(): LocationHealth[] { return this.#places.map(place => place.health()) }

  async list(type: Exclude<FileType, 'config'>, options: ReadOptions = {}): Promise<FileInfo[]> {
    const { signal } = options
    const failures = new Map<ReplicaLocation, Error>()
    for (const places of [() => this.#inUse().slice(0, 1).filter(place => place === this.#main), () => this.#inUse(), () => this.#down()]) {
      const lists = new Map<ReplicaLocation, FileInfo[]>()
      await Promise.all(places().filter(place => !failures.has(place)).map(async place => {
        try {
          lists.set(place, await this.#listOne(place, type, this.#bounded(options)))
        } catch (error) {
          failures.set(place, error as Error)
        }
      }))
      throwIfAborted(signal)
      if (lists.size === 0) continue
      const all = lists.get(this.#main)
      if (all !== undefined) return all
      options.partial?.()
      const files = new Map<string, FileInfo>()
      for (const list of lists.values()) for (const file of list) if (!files.has(file.name)) files.set(file.name, file)
      return [...files.values()]
    }
    // Nowhere is anything: whoever asks for the config will hear it.
    if ([...failures.values()].every(({ cause }) => cause instanceof NotFoundError)) return []
    throw this.#unreachable(failures)
  }

  async read(handle: Handle, offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    const { into, ...rest } = options
    let offered = into
    return this.#ask(handle, { offset, length }, rest, (backend, inner) => {
      const memory = offered
      offered = undefined // whoever is overtaken or fails may go on writing
      return backend.read(handle, offset, length, memory === undefined ? inner : { ...inner, into: memory })
    })
  }

  readAll(handle: Handle, maxLength: number, options: ReadOptions = {}): Promise<Buffer> {
    return this.#ask(handle, { offset: 0, length: Infinity }, options, (backend, inner) => backend.readAll(handle, maxLength, inner))
  }

  stat(handle: Handle, options: ReadOptions = {}): Promise<FileInfo> {
    return this.#ask(handle, null, options, (backend, inner) => backend.stat(handle, inner))
  }

  async close(): Promise<void> {
    await Promise.all(this.#places.map(place => place.close()))
  }

  /** The most preferred one that holds this repository. */
  get #main(): ReplicaLocation { return this.#places.find(({ state }) => state !== 'refused') ?? this.#places[0] }
  #inUse(): ReplicaLocation[] { return this.#places.filter(({ state }) => state === 'up') }
  #down(): ReplicaLocation[] { return this.#places.filter(({ state }) => state === 'down') }

  /** @param range what is read, null where it is no read */
  async #ask<T>(handle: Handle, range: { offset: number, length: number } | null, options: ReadOptions, request: (backend: ReadBackend, options: ReadOptions) => Promise<T>): Promise<T> {
    const { again = 0, signal, ...rest } = options
    throwIfAborted(signal)
    const wrong = again === 0 || range === null ? [] : this.#answers.wrong(handle, range.offset, range.length, again, this.sources)
    if (wrong.length > 0) this.#sources[wrong.at(-1)!].place.gaveWrong(handle, 'its bytes are wrong')
    const failures = new Map<ReplicaLocation, Error>()
    const untried = this.#sources.filter(source => !wrong.includes(source.number))
    // Of several sources at one place, one is asked at a time: the others are for bytes that prove wrong.
    const candidates = (state: LocationHealth['state']) => this.#places.filter(place => place.state === state && !failures.has(place))
      .flatMap(place => untried.find(source => source.place === place) ?? [])
    const length = range === null ? undefined : Number.isFinite(range.length) ? range.length : 0
    const ask = ({ place, again }: Source, stop: AbortSignal) => place.ask(request, { ...this.#bounded(rest), signal: stop, ...again > 0 ? { again } : {} }, length)
    if (range !== null) this.#hedges.earn()

    for (const state of ['up', 'down'] as const) {
      const asked = state === 'up' || this.#mayHelp(failures, wrong) ? candidates(state) : []
      if (asked.length === 0) continue
      const note = (found: ReadonlyMap<Source, Error>) => { for (const [{ place }, error] of found) this.#noteFailure(place, handle, error, failures) }
      try {
        const { candidate, value, failures: found, overtaken } = await firstGood(asked, {
          signal, ask,
          // When all are down there is nothing to be spared.
          patienceMs: state === 'down' ? () => 0 : range === null || again > 0 ? undefined : this.#patience(length!),
        })
        note(found)
        for (const [{ place }, waitedMs] of overtaken) place.overtaken(waitedMs)
        if (range !== null) this.#answers.note(handle, range.offset, range.length, candidate.number)
        return value
      } catch (error) {
        if (!(error instanceof NoneGood)) throw error
        note(error.failures as ReadonlyMap<Source, Error>)
        throwIfAborted(signal)
      }
    }
    throw this.#verdict(handle, failures, wrong)
  }

  /** When to ask the next one as well, once: after what such reads take mostly, as long as the share of hedged ones is small. */
  #patience(length: number): (source: Source, waitedMs: number, underWay: number) => number {
    let hedged = false
    return ({ place }, waitedMs, underWay) => {
      if (hedged || underWay > 1) return Infinity
      const hedgeMs = Math.max(this.#leastHedgeMs, place.p95(length) ?? UNKNOWN_HEDGE_MS + length / UNKNOWN_BYTES_PER_MS)
      if (waitedMs < hedgeMs) return hedgeMs - waitedMs
      hedged = true
      return this.#hedges.take() ? 0 : Infinity
    }
  }

  /** Are those that are down worth a try, after what the others said? */
  #mayHelp(failures: ReadonlyMap<ReplicaLocation, Error>, wrong: readonly number[]): boolean {
    const errors = [...failures.values()]
    const answered = wrong.length > 0 || errors.some(isDamage) || failures.get(this.#main) instanceof NotFoundError
    return !answered || this.#down().some(place => performance.now() - place.downSince < GRACE_MS)
  }

  /** Why there is no good answer. Where one that failed just now may have had it, that is what counts: it may soon. */
  #verdict(handle: Handle, failures: ReadonlyMap<ReplicaLocation, Error>, wrong: readonly number[]): Error {
    const errors = [...failures.values()]
    const damage = errors.find(isDamage) ?? (wrong.length > 0 ? new CorruptError(fileName(handle), 'its bytes are wrong, and no other location has them') : undefined)
    const passing = [...failures].filter(([, error]) => isUnreachable(error) && retryable(error))
    if (damage !== undefined) {
      const recent = passing.find(([place]) => place.state === 'up' || performance.now() - place.downSince < GRACE_MS)
      return recent === undefined ? damage : new DamagedForNow(handle, damage, recent[1])
    }
    const missing = failures.get(this.#main)
    if (missing instanceof NotFoundError && !passing.some(([place]) => place.state === 'up')) return missing
    return errors.some(isUnreachable) || errors.length === 0 ? this.#unreachable(failures) : errors[0]
  }

  #unreachable(failures: ReadonlyMap<ReplicaLocation, Error>): Error {
    const errors = this.#places.flatMap(place => failures.get(place) ?? []).filter(isUnreachable)
    const cause = errors.find(retryable) ?? errors[0]
    if (cause === undefined) return new DaybookError('ERR_UNREACHABLE', `${this.#main.name} does not answer`)
    if (errors.length === 1) return cause
    if (!retryable(cause)) return cause
    return new DaybookError('ERR_UNREACHABLE', errors.map(({ message }) => message).join('; '), (cause as DaybookError).hint, { cause: cause.cause ?? cause })
  }

  #noteFailure(place: ReplicaLocation, handle: Handle, error: Error, failures: Map<ReplicaLocation, Error>): void {
    failures.set(place, error)
    if (error instanceof NotFoundError) place.lacks(handle)
    else if (isDamage(error)) place.gaveWrong(handle, error instanceof CorruptError ? error.reason : error.message)
  }

  /** An empty folder may be a disk that is not mounted. */
  #listOne(place: ReplicaLocation, type: Exclude<FileType, 'config'>, options: ReadOptions): Promise<FileInfo[]> {
    return place.ask(async (backend, inner) => {
      const files = await backend.list(type, inner)
      if (files.length === 0) {
        await backend.stat({ type: 'config', name: '' }, inner).catch((error: Error) => {
          throw error instanceof NotFoundError ? holdsNothing(place.name, error) : error
        })
      }
      return files
    }, options)
  }

  /** Only the first one's. What it does not give is read by itself, and then the others are asked. */
  async #readRanges(ranges: readonly Range[], into: Buffer, options?: { signal?: AbortSignal }): Promise<ArrayLike<number>> {
    const [main] = this.#places
    if (main.state !== 'up') return []
    let timer: NodeJS.Timeout | undefined
    const silent = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const error = new DaybookError('ERR_UNREACHABLE', `${main.name} does not answer`)
        main.failed(error)
        reject(error)
      }, this.#silentMs)
    })
    try {
      return await Promise.race([main.backend.readRanges!(ranges, into, options), silent])
    } finally {
      clearTimeout(timer)
    }
  }

  /** There are others to ask: silence is not waited out. Where there are none just now, who retries asks again. */
  #bounded(options: ReadOptions): ReadOptions { return { ...options, idleMs: Math.min(options.idleMs ?? Infinity, this.#silentMs) } }
}

/** Damaged where it can be read, while a location that may have it whole does not answer: it may soon. */
class DamagedForNow extends CorruptError {
  constructor(handle: Handle, damage: Error, outage: Error) {
    super(damage instanceof CorruptError ? damage.file : fileName(handle), `${damage instanceof CorruptError ? damage.reason : damage.message}; ${outage.message}`, { cause: damage })
  }

  override get retryable(): boolean { return true }
}

function retryable(error: Error): boolean { return error instanceof DaybookError && error.retryable }
