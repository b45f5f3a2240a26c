import { setMaxListeners } from 'node:events'
import type { Near, ReadBackend } from '../backend/backend.js'
import type { BlobLocation, LocalIndex } from '../index/index.js'
import { AHEAD_LIMITS, planReads } from './fetch-plan.js'
import type { PlannedRead } from './fetch-plan.js'
import { isSound } from './pack-reader.js'
import { ReadMemory } from './read-memory.js'

export interface AheadReaderOptions {
  readonly backend: ReadBackend & { readonly near: Near }
  readonly index: Pick<LocalIndex, 'packName'>
  /** ends everything */
  readonly signal: AbortSignal
  /** bytes under way at once; a single read may exceed it */
  readonly inFlightBytes?: number
}

interface Job { readonly reads: PlannedRead[], left: number, readonly done: () => void }

const IN_FLIGHT_BYTES = 12 << 20
const IDLE_BYTES = 12 << 20
/** So much more than is kept is not: a disk slower than the link. Not another try for some time. */
const MAX_UNKEPT = 8 << 20
const PAUSE_MS = 10_000

/**
 * Brings ranges of packs from a far repository into the cache that is near, undecoded: tens of MiB ahead of a reader, so that each request brings much and several
 * are always under way, while what is decoded, and takes several times the memory, stays a little ahead of him as with a local repository.
 */
export class AheadReader {
  readonly #options: AheadReaderOptions
  readonly #memory = new ReadMemory(IDLE_BYTES)
  readonly #budget: number
  /** first come, first served */
  readonly #jobs: Job[] = []
  #reading = 0
  #bytes = 0
  #unkept = 0
  #pausedUntil = -Infinity

  constructor(options: AheadReaderOptions) {
    this.#options = options
    this.#budget = options.inFlightBytes ?? IN_FLIGHT_BYTES
    setMaxListeners(0, options.signal)
    options.signal.addEventListener('abort', () => this.#close(), { once: true })
  }

  /** How many bytes may be brought and not used yet; 0: it would be of no use. */
  get capacity(): number { return this.#options.signal.aborted || performance.now() < this.#pausedUntil ? 0 : this.#options.backend.near.ahead }

  /** @param wanted of each blob its copies, best first. Resolves when all are near, or cannot be had; never rejects. */
  async bring(wanted: readonly (readonly BlobLocation[])[]): Promise<void> {
    const { backend: { near }, index } = this.#options
    const names = new Map<number, string>()
    for (const locations of wanted) for (const { pack } of locations) if (!names.has(pack)) names.set(pack, index.packName(pack))
    await near.look(new Set(names.values()))
    const missing = wanted.filter(locations => !locations.some(({ pack, offset, length }) => near.has(names.get(pack)!, offset, length)))
      .map(locations => locations.filter(isSound)).filter(locations => locations.length > 0)
    const reads = planReads(missing, AHEAD_LIMITS)
    if (reads.length === 0 || this.capacity === 0) return
    await new Promise<void>(done => {
      this.#jobs.push({ reads, left: reads.length, done })
      this.#pump()
    })
  }

  #pump(): void {
    // one connection is left to those who wait
    const atOnce = Math.max(1, this.#options.backend.connections - 1)
    while (this.#jobs.length > 0 && this.#reading < atOnce && (this.#reading === 0 || this.#bytes < this.#budget)) {
      const job = this.#jobs[0]
      const read = job.reads.shift()!
      if (job.reads.length === 0) this.#jobs.shift()
      void this.#read(read).then(() => {
        if (--job.left === 0) job.done()
        this.#pump()
      })
    }
  }

  /** Never rejects: whoever needs the bytes asks again, and is told. */
  async #read({ pack, locations }: PlannedRead): Promise<void> {
    const { backend, index, signal } = this.#options
    const name = index.packName(pack)
    // Somebody could not wait, and has asked for it himself.
    const missing = locations.filter(({ offset, length }) => !backend.near.coming(name, offset, length))
    if (this.capacity === 0 || name === '' || missing.length === 0) return
    const { offset } = missing[0]
    const length = missing.reduce((end, location) => Math.max(end, location.offset + location.length), 0) - offset
    this.#reading++
    this.#bytes += length
    const into = this.#memory.take(length)
    try {
      const bytes = await backend.read({ type: 'data', name }, offset, length, { signal, into, keep: true })
      this.#kept(backend.near.has(name, offset, length), length)
      if (into !== undefined && bytes.buffer === into.buffer) this.#memory.give(into)
    } catch { /* memory that may still be written to is not used again */ }
    this.#bytes -= length
    this.#reading--
  }

  #kept(kept: boolean, length: number): void {
    this.#unkept = Math.max(0, this.#unkept + (kept ? -length : length))
    if (this.#unkept <= MAX_UNKEPT) return
    this.#unkept = 0
    this.#pausedUntil = performance.now() + PAUSE_MS
  }

  #close(): void {
    for (const job of this.#jobs.splice(0)) job.done()
    this.#memory.clear()
  }
}
