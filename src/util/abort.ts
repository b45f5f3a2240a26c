import { DaybookError } from '../errors.js'

/** What everything that was given up rejects with. */
export function abortedError(signal?: AbortSignal): DaybookError {
  return new DaybookError('ERR_ABORTED', 'aborted', undefined, signal?.reason === undefined ? undefined : { cause: signal.reason })
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError(signal)
}

/**
 * The promise's outcome, or ERR_ABORTED as soon as the signal says so. The work itself goes on where it cannot be stopped
 * (a read on a dead NFS server), but nobody waits for it any more; its late failure is not reported as unhandled.
 */
export async function raceAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise
  if (signal.aborted) {
    promise.catch(() => {})
    throw abortedError(signal)
  }
  let stop!: () => void
  const aborted = new Promise<never>((_, reject) => { stop = () => reject(abortedError(signal)) })
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
    promise.catch(() => {})
  }
}
