import { setMaxListeners } from 'node:events'
import type { Handle, ReadBackend, ReadOptions } from '../backend/backend.js'
import { abortedError } from '../util/abort.js'

interface Waiting {
  readonly offset: number
  readonly into: Buffer
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

interface Fetch {
  readonly offset: number
  readonly end: number
  readonly waiting: Set<Waiting>
  readonly abort: AbortController
}

/** Ranges on their way from a remote. Who wants a part of one that is under way waits for it; it is given up when nobody waits any more. */
export class Fetches {
  readonly #inner: ReadBackend
  readonly #arrived: (handle: Handle, offset: number, bytes: Buffer, options: ReadOptions) => Promise<void> | null
  readonly #byName = new Map<string, Set<Fetch>>()

  /** @param arrived told of each range, before those who wait for it: the bytes are theirs when it is done */
  constructor(inner: ReadBackend, arrived: (handle: Handle, offset: number, bytes: Buffer, options: ReadOptions) => Promise<void> | null) {
    this.#inner = inner
    this.#arrived = arrived
  }

  /** Is all of this on its way? */
  has(handle: Handle, offset: number, end: number): boolean { return this.#find(handle, offset, end) !== undefined }

  /** A stretch, cut where ranges on their way begin or end: each piece is part of one of them, or of none. */
  cut(handle: Handle, from: number, to: number): [number, number][] {
    const cuts = new Set([to])
    for (const { offset, end } of this.#byName.get(handle.name) ?? []) for (const at of [offset, end]) if (at > from && at < to) cuts.add(at)
    const ends = [...cuts].sort((a, b) => a - b)
    return ends.map((end, i) => [i === 0 ? from : ends[i - 1], end])
  }

  /** What of a stretch around from..to is not on its way, as far as it hangs together with that. */
  around(handle: Handle, from: number, to: number, [start, end]: readonly [number, number]): [number, number] {
    for (const fetch of this.#byName.get(handle.name) ?? []) {
      if (fetch.offset < from) start = Math.max(start, Math.min(fetch.end, from))
      if (fetch.end > to) end = Math.min(end, Math.max(fetch.offset, to))
    }
    return [start, end]
  }

  /** Fill `into`, which must not be used again if this fails. */
  read(handle: Handle, offset: number, into: Buffer, options: ReadOptions): Promise<void> {
    const { signal } = options
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(abortedError(signal))
      const giveUp = () => {
        fetch.waiting.delete(waiting)
        reject(abortedError(signal))
        if (fetch.waiting.size === 0) fetch.abort.abort()
      }
      const done = () => signal?.removeEventListener('abort', giveUp)
      const waiting: Waiting = {
        offset, into,
        resolve: () => { done(); resolve() },
        reject: error => { done(); reject(error) },
      }
      const underWay = this.#find(handle, offset, offset + into.length)
      const fetch = underWay ?? { offset, end: offset + into.length, waiting: new Set(), abort: new AbortController() }
      fetch.waiting.add(waiting)
      signal?.addEventListener('abort', giveUp, { once: true })
      if (underWay === undefined) void this.#run(handle, fetch, into, options)
    })
  }

  #find({ name }: Handle, offset: number, end: number): Fetch | undefined {
    for (const fetch of this.#byName.get(name) ?? []) if (fetch.offset <= offset && fetch.end >= end && !fetch.abort.signal.aborted) return fetch
    return undefined
  }

  /** Never rejects. */
  async #run(handle: Handle, fetch: Fetch, into: Buffer, options: ReadOptions): Promise<void> {
    const { name } = handle
    const fetches = this.#byName.get(name) ?? new Set()
    fetches.add(fetch)
    this.#byName.set(name, fetches)
    setMaxListeners(0, fetch.abort.signal)
    const outcome = await this.#inner.read(handle, fetch.offset, fetch.end - fetch.offset, { ...options, into, signal: fetch.abort.signal })
      .catch((error: Error) => error)
    const waits = outcome instanceof Error ? null : this.#arrived(handle, fetch.offset, outcome, options)
    if (waits !== null) await waits
    fetches.delete(fetch)
    if (fetches.size === 0) this.#byName.delete(name)
    if (outcome instanceof Error) {
      for (const { reject } of fetch.waiting) reject(outcome)
      return
    }
    // All have their copy before the first of them can do anything with his.
    for (const waiting of fetch.waiting) {
      const from = waiting.offset - fetch.offset
      const own = outcome.buffer === waiting.into.buffer && outcome.byteOffset + from === waiting.into.byteOffset
      if (!own) outcome.copy(waiting.into, 0, from, from + waiting.into.length)
    }
    for (const { resolve } of fetch.waiting) resolve()
  }
}
