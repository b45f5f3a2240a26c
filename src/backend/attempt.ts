import { DaybookError } from '../errors.js'
import { abortedError, throwIfAborted } from '../util/abort.js'
import type { ReadOptions } from './backend.js'

/** Of a request nobody gave a time to. */
const IDLE_MS = 60_000
/** A timer of Node's that is set for longer fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1

/** What one request to a remote has to know: when to stop, and whom to tell that something has come. */
export interface Attempt {
  /** stop: nobody waits for the outcome any more. Its reason is the error that was given to the caller instead. */
  readonly signal: AbortSignal
  alive(): void
}

/**
 * One request to a remote. It ends at once when the caller gives up, and with ERR_UNREACHABLE when nothing has come for `idleMs`; `work` is told through
 * its signal and need not be waited for.
 * @param location for messages
 */
export async function attempt<T>(location: string, { signal, idleMs = IDLE_MS, alive }: ReadOptions, work: (attempt: Attempt) => Promise<T>): Promise<T> {
  throwIfAborted(signal)
  const stop = new AbortController()
  let end!: (error: Error) => void
  const ended = new Promise<never>((_, reject) => { end = reject })
  const giveUp = () => end(abortedError(signal))
  const timer = setTimeout(() => end(new DaybookError('ERR_UNREACHABLE', `no answer from ${location} for ${seconds(idleMs)}`)), Math.min(idleMs, MAX_TIMER_MS))
  signal?.addEventListener('abort', giveUp, { once: true })
  let over = false
  const working = work({
    signal: stop.signal,
    alive: () => {
      if (over) return // refresh() would set a cleared timer anew
      timer.refresh()
      alive?.()
    },
  })
  working.catch(() => {}) // nobody may be left to hear of it
  try {
    return await Promise.race([working, ended])
  } catch (error) {
    stop.abort(error)
    throw error
  } finally {
    over = true
    clearTimeout(timer)
    signal?.removeEventListener('abort', giveUp)
  }
}

export function seconds(ms: number): string { return `${Number((ms / 1000).toFixed(1))} s` }
