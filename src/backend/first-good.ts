import { abortedError, throwIfAborted } from '../util/abort.js'

export interface FirstGoodOptions<C, T> {
  signal?: AbortSignal
  /** A request to one of them. Its signal ends it when another was faster, or nobody waits any more. */
  ask(candidate: C, signal: AbortSignal): Promise<T>
  /**
   * How long yet to wait for this one before the next is asked as well, in ms; 0 or less: ask it now; Infinity: never. Asked when the request begins
   * and each time the wait is over.
   */
  patienceMs?(candidate: C, waitedMs: number, underWay: number): number
}

export interface FirstGood<C, T> {
  readonly candidate: C
  readonly value: T
  readonly failures: ReadonlyMap<C, Error>
  /** those that were slower, and how long they had had */
  readonly overtaken: ReadonlyMap<C, number>
}

/** Nobody answered well: why, by candidate, in the order they failed. */
export class NoneGood<C> extends Error {
  override readonly name = 'NoneGood'
  constructor(readonly failures: ReadonlyMap<C, Error>) { super('no good answer') }
}

/**
 * The first good answer. The candidates are asked in order: the next one when one has failed, or when it takes too long; then both are under way, and the
 * faster one counts. Others under way are ended with it.
 * @throws NoneGood; ERR_ABORTED at once
 */
export function firstGood<C, T>(candidates: readonly C[], { signal, ask, patienceMs = () => Infinity }: FirstGoodOptions<C, T>): Promise<FirstGood<C, T>> {
  return new Promise((resolve, reject) => {
    throwIfAborted(signal)
    const underWay = new Map<C, { readonly stop: AbortController, readonly started: number, timer: NodeJS.Timeout | null }>()
    const failures = new Map<C, Error>()
    /** of those under way, those whose successor was asked already */
    const late = new Set<C>()
    let next = 0
    const giveUp = () => end(() => reject(abortedError(signal)))
    const end = (settle: () => void) => {
      next = Infinity
      signal?.removeEventListener('abort', giveUp)
      settle()
      for (const { stop, timer } of underWay.values()) {
        if (timer !== null) clearTimeout(timer)
        stop.abort()
      }
      underWay.clear()
    }
    const askNext = () => {
      const candidate = candidates[next++]
      const started = performance.now()
      const request = { stop: new AbortController(), started, timer: null as NodeJS.Timeout | null }
      underWay.set(candidate, request)
      const done = () => {
        if (request.timer !== null) clearTimeout(request.timer)
        return underWay.delete(candidate)
      }
      ask(candidate, request.stop.signal).then(value => {
        if (!done()) return
        const now = performance.now()
        end(() => resolve({ candidate, value, failures, overtaken: new Map([...underWay].map(([other, { started }]) => [other, now - started])) }))
      }, (error: Error) => {
        if (!done()) return
        failures.set(candidate, error)
        if (next < candidates.length) { if ([...underWay.keys()].every(other => late.has(other))) askNext() }
        else if (underWay.size === 0) end(() => reject(new NoneGood(failures)))
      })
      const look = () => {
        if (next >= candidates.length || !underWay.has(candidate)) return
        const wait = patienceMs(candidate, performance.now() - started, underWay.size)
        if (wait <= 0) {
          late.add(candidate)
          askNext()
        } else if (wait < Infinity) request.timer = setTimeout(look, Math.ceil(wait))
      }
      look()
    }
    signal?.addEventListener('abort', giveUp, { once: true })
    if (candidates.length === 0) end(() => reject(new NoneGood(failures)))
    else askNext()
  })
}
