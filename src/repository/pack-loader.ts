import { setMaxListeners } from 'node:events'
import type { Near, ReadBackend } from '../backend/backend.js'
import { CorruptError, DaybookError, faultFields, NotFoundError } from '../errors.js'
import type { BlobId } from '../fs/sources.js'
import type { BlobLocation, LocalIndex } from '../index/index.js'
import { abortedError } from '../util/abort.js'
import { keyHex, keyId } from '../util/id-key.js'
import type { Logger } from '../util/log.js'
import { SharedRun } from '../util/single-flight.js'
import { LOCAL_LIMITS, NEAR_LIMITS, plainLength, planReads } from './fetch-plan.js'
import type { PlanLimits } from './fetch-plan.js'
import { LocationCache } from './location-cache.js'
import { Lane, part, Read, WantedBlob } from './pack-read.js'
import type { OnItem } from './pack-read.js'
import { concernsCopy, decodeEntries, decodeFailure, isSound, readPack } from './pack-reader.js'
import { ReadMemory } from './read-memory.js'

/** What both loaders take. */
export interface PackLoaderOptions {
  readonly backend: ReadBackend
  /** 64 bytes, as native.decodeBlobs takes them */
  readonly keys: Uint8Array
  readonly index: Pick<LocalIndex, 'locate' | 'packName' | 'treesEnd'>
  /** list index files again; true if something new was learnt */
  readonly refresh: () => Promise<boolean>
  /** While the index is being filled: resolves when it may know this blob, or is full. */
  readonly located?: (id: BlobId) => Promise<void>
  readonly log: Logger
  /** closes the loader */
  readonly signal?: AbortSignal
  readonly plan?: PlanLimits
  /** bytes of ranges and of what they decode to, under way at once; a single read may exceed it */
  readonly inFlightBytes?: number
  /** bytes of read-ahead wanted and not yet delivered */
  readonly aheadBytes?: number
}

/** What is made of a blob, and what becomes of it. */
export interface Decoding<T> {
  /** what to call it in errors */
  readonly kind: 'blob' | 'tree'
  /** as native.decodeBlobs and decodeTrees */
  decode(keys: Uint8Array, source: Buffer, entries: Uint32Array, ids: Uint8Array): Promise<(T | number)[]>
  /** Decoded: `settle` hands it to all who wait. */
  arrived(key: string, item: T, settle: () => void): void
  /** Decoded, but nobody is left to take it. */
  discard(item: T): void
  /** The loader was closed. */
  closed?(): void
}

/** A read whose bytes lie at `start` of `bytes`. */
interface Arrived<T> { readonly read: Read<T>, readonly bytes: Buffer, readonly start: number }

/**
 * Short reads that wait are done as one where the backend can, and decoded as one: each hop to the thread pool and back wakes two sleeping threads, which takes
 * longer than to read and decode a few KB.
 */
const GROUP_READS = 64
const GROUP_BYTES = 1 << 20
const SHORT_READ = 256 << 10
/** Bytes of memory for ranges kept between reads: as much as is ever under way, for what is not kept is garbage that stays for long. */
const IDLE_BYTES = 6 << 20
/** Reads of a cache at once: more only queue up in libuv's thread pool. */
const NEAR_READS = 4
/** Of the budget, what reads of a cache find free even when reads of a remote that does not answer hold all of it. */
const NEAR_SHARE = 1 / 4
/** Places of blobs remembered: `length` and `want` ask for the same ones, a file's reader again and again. */
const MAX_LOCATIONS = 8192

/**
 * Blobs out of a repository's packs.
 *
 * want() notes what is wanted. At the end of the turn the new wishes are planned together, demand and read-ahead each for itself, and the planned
 * reads wait in two queues. pump() begins reads while the budget of bytes lasts: demand first, read-ahead within a part of the budget, so that
 * demand always finds room. What the backend has near is planned by itself and has queues of its own, so that it waits for no remote. A range that has arrived is decoded by one call, which uses all cores, while the next range is read.
 *
 * A copy that cannot be had (pack gone, range cut short, wrong bytes) leads to the next copy of that blob alone; when none is left, the repository is
 * looked at once (a prune may have moved the blob) and everything is tried once more; then the blob's error is delivered.
 */
export class PackLoader<T> {
  readonly aheadBudget: number
  readonly #options: PackLoaderOptions
  readonly #decoding: Decoding<T>
  readonly #plan: PlanLimits
  readonly #budget: number
  readonly #refresh: SharedRun<boolean>
  readonly #memory = new ReadMemory(IDLE_BYTES)
  readonly #locations = new LocationCache(MAX_LOCATIONS)
  readonly #abort = new AbortController()
  readonly #onAbort = () => this.close()

  readonly #wanted = new Map<string, WantedBlob<T>>()
  #unplanned: WantedBlob<T>[] = []
  #planning = false
  /** blobs without a copy left, which wait for a new look at the repository */
  #lost: WantedBlob<T>[] = []
  #relocating = false
  readonly #near = new Lane<T>()
  readonly #far = new Lane<T>()

  #aheadBytes = 0
  #closed = false

  constructor(options: PackLoaderOptions, decoding: Decoding<T>, budgets: { inFlightBytes: number, aheadBytes: number }) {
    this.#options = options
    this.#decoding = decoding
    this.#plan = options.plan ?? LOCAL_LIMITS
    this.#budget = options.inFlightBytes ?? budgets.inFlightBytes
    this.aheadBudget = options.aheadBytes ?? budgets.aheadBytes
    this.#refresh = new SharedRun(options.refresh)
    // each read under way listens
    setMaxListeners(0, this.#abort.signal)
    options.signal?.addEventListener('abort', this.#onAbort, { once: true })
    if (options.signal?.aborted) this.close()
  }

  /** Copies of a blob that can be, best first. */
  locate(key: string, id: BlobId): readonly BlobLocation[] {
    const known = this.#locations.get(key)
    if (known !== undefined) return known
    let locations: readonly BlobLocation[] = this.#options.index.locate(id)
    if (!locations.every(isSound)) locations = locations.filter(isSound)
    if (locations.length > 0) this.#locations.set(key, locations)
    return locations
  }

  async refresh(): Promise<boolean> {
    if (this.#closed) throw abortedError()
    const news = await this.#refresh.run()
    this.#locations.clear()
    return news
  }

  /**
   * `onItem` is called once with `index`: with the blob, or the reason it cannot be had. The same blob wanted twice is fetched once.
   * `ahead` yields to demand and may be refused (ERR_ABORTED) when memory is short; `background` yields, too, but is bounded by who asks.
   */
  want(key: string, id: BlobId, priority: 'demand' | 'ahead' | 'background', onItem: OnItem<T>, index: number): void {
    const wanted = this.#wanted.get(key)
    if (wanted === undefined) return this.#wantNew(key, id, priority, onItem, index)
    ;(wanted.others ??= []).push(onItem, index)
    if (priority === 'demand' && wanted.ahead) this.#promote(wanted)
  }

  /** Everything pending is answered ERR_ABORTED, memory is given back. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#abort.abort()
    this.#unplanned = []
    this.#lost = []
    this.#near.clear()
    this.#far.clear()
    for (const wanted of [...this.#wanted.values()]) this.#settle(wanted, abortedError())
    this.#memory.clear()
    this.#locations.clear()
    this.#decoding.closed?.()
  }

  get closed(): boolean { return this.#closed }
  /** something is wanted, being read or decoded */
  get busy(): boolean { return this.#wanted.size > 0 }

  /** For logs and tests. */
  stats(): { wanted: number, inFlightBytes: number, aheadBytes: number } {
    return { wanted: this.#wanted.size, inFlightBytes: this.#near.bytes + this.#far.bytes, aheadBytes: this.#aheadBytes }
  }

  /** One reader's mistake must not cost the others of the same read their answer. */
  deliver(onItem: OnItem<T>, index: number, item: T | Error): void {
    try {
      onItem(index, item)
    } catch (error) {
      this.#options.log.error(`a reader of ${this.#decoding.kind}s threw`, { error })
    }
  }

  #wantNew(key: string, id: BlobId, priority: 'demand' | 'ahead' | 'background', onItem: OnItem<T>, index: number): void {
    if (this.#closed) return this.deliver(onItem, index, abortedError())
    const locations = this.locate(key, id)
    const bytes = locations.length === 0 ? 0 : plainLength(locations[0])
    const ahead = priority !== 'demand'
    if (ahead) {
      if (priority === 'ahead' && this.#aheadBytes > 0 && this.#aheadBytes + bytes > this.aheadBudget) return this.deliver(onItem, index, REFUSED)
      this.#aheadBytes += bytes
    }
    const wanted = new WantedBlob(key, locations, bytes, ahead, onItem, index)
    this.#wanted.set(key, wanted)
    if (locations.length > 0) this.#planSoon(wanted)
    else if (this.#options.located === undefined) this.#relocate(wanted)
    else void this.#planOnceLocated(wanted, this.#options.located)
  }

  /** Never rejects. */
  async #planOnceLocated(wanted: WantedBlob<T>, located: (id: BlobId) => Promise<void>): Promise<void> {
    const id = keyId(wanted.key)
    await located(id).catch(() => {})
    if (this.#closed) return
    wanted.locations = this.locate(wanted.key, id)
    if (wanted.locations.length > 0) this.#planSoon(wanted)
    else this.#relocate(wanted)
  }

  /** Read-ahead that has become demand overtakes: in the queue, the stretch of its read around it does. */
  #promote(wanted: WantedBlob<T>): void {
    this.#lowerAhead(wanted)
    const { read } = wanted
    if (read === null || read.started || !read.ahead) return
    const lane = this.#lane(read)
    const at = lane.ahead.indexOf(read)
    const from = read.members.indexOf(wanted)
    let end = from + 1
    const start = read.locations[from].offset
    while (end < read.members.length && read.locations[end].offset + read.locations[end].length - start <= this.#plan.firstRange) end++
    const rest = [part(read, 0, from), part(read, end, read.members.length)].filter(read => read !== null)
    lane.ahead.splice(at, 1, ...rest)
    const first = part(read, from, end)!
    first.ahead = false
    lane.demand.push(first)
    this.#soon()
  }

  #lowerAhead(wanted: WantedBlob<T>): void {
    if (!wanted.ahead) return
    wanted.ahead = false
    this.#aheadBytes -= wanted.bytes
  }

  #planSoon(wanted: WantedBlob<T>): void {
    wanted.read = null
    this.#unplanned.push(wanted)
    this.#soon()
  }

  // Not in the turn of the caller: requests that arrive together are planned together, and no handler waits for a read to be begun.
  #soon(): void {
    if (this.#planning || this.#closed) return
    this.#planning = true
    setImmediate(() => {
      this.#planning = false
      this.#planAll()
      this.#pump()
    })
  }

  #planAll(): void {
    if (this.#unplanned.length === 0) return
    const unplanned = this.#unplanned
    this.#unplanned = []
    const { backend: { near }, index } = this.#options
    if (near === undefined) return this.#planLane(this.#far, unplanned)
    const names = new Map<number, string>()
    for (const { locations } of unplanned) for (const { pack } of locations) if (!names.has(pack)) names.set(pack, index.packName(pack))
    const looking = near.look(new Set(names.values()))
    if (looking === null) return this.#planByDistance(unplanned, names, near)
    void looking.then(() => {
      if (this.#closed) return
      this.#planByDistance(unplanned, names, near)
      this.#pump()
    })
  }

  /** A blob that is near is not read together with one that is not, which it would have to wait for. */
  #planByDistance(unplanned: WantedBlob<T>[], names: ReadonlyMap<number, string>, near: Near): void {
    const far: WantedBlob<T>[] = []
    const here: WantedBlob<T>[] = []
    const copies: (readonly BlobLocation[])[] = []
    for (const wanted of unplanned) {
      const found = wanted.locations.filter(({ pack, offset, length }) => near.has(names.get(pack)!, offset, length))
      if (found.length === 0) far.push(wanted)
      else {
        here.push(wanted)
        copies.push(found)
      }
    }
    this.#planLane(this.#near, here, copies)
    this.#planLane(this.#far, far)
  }

  #planLane(lane: Lane<T>, blobs: WantedBlob<T>[], copies: (readonly BlobLocation[])[] = blobs.map(wanted => wanted.locations)): void {
    for (const ahead of [false, true]) {
      const members = blobs.flatMap((wanted, i) => wanted.ahead === ahead ? [i] : [])
      if (members.length === 0) continue
      for (const read of planReads(members.map(i => copies[i]), lane === this.#near ? NEAR_LIMITS : this.#plan)) {
        const { pack, offset, length, locations } = read
        lane.queue(ahead).push(new Read(pack, offset, length, read.members.map(member => blobs[members[member]]), locations, ahead, lane === this.#near))
      }
    }
  }

  #lane({ near }: Read<T>): Lane<T> { return near ? this.#near : this.#far }

  #pump(): void {
    for (let first = this.#takeFirst(); first !== undefined; first = this.#takeFirst()) {
      const lane = this.#lane(first)
      const group = [first]
      let bytes = first.length
      while (!first.alone && group.length < GROUP_READS && this.#takesGroups(first)) {
        const next = this.#take(lane, bytes, first.ahead)
        if (next === undefined) break
        group.push(next)
        bytes += next.length
      }
      void this.#run(lane, group, bytes)
    }
  }

  #takesGroups({ near }: Read<T>): boolean {
    const { backend } = this.#options
    return near || backend.readRanges !== undefined && backend.near === undefined
  }

  #takeFirst(): Read<T> | undefined { return this.#take(this.#near, 0) ?? this.#take(this.#far, 0) }

  /** The next read that may begin. @param joining bytes of the group it would be part of, 0: it begins one */
  #take(lane: Lane<T>, joining: number, ahead?: boolean): Read<T> | undefined {
    if (this.#closed) return undefined
    const isAhead = lane.demand.length === 0
    const queue = lane.queue(isAhead)
    if (queue.length === 0) return undefined
    const read = queue[0]
    if (joining > 0 && (isAhead !== ahead || read.alone || joining + read.length > GROUP_BYTES)) return undefined
    const atOnce = lane === this.#near ? NEAR_READS : this.#options.backend.connections
    const bytes = this.#near.bytes + this.#far.bytes
    const fits = bytes + read.cost <= this.#budget * (isAhead ? 3 / 4 : 1) || lane === this.#near && lane.bytes + read.cost <= this.#budget * NEAR_SHARE
    // Begun one by one as room comes free, short reads would each be a group of their own.
    const waits = isAhead && read.length < SHORT_READ && this.#takesGroups(read) && lane.bytes > this.#budget / 2
    const idle = joining > 0 || !waits && lane.reading < (isAhead ? Math.max(1, atOnce - 1) : atOnce)
    const first = isAhead ? lane.bytes === 0 : lane.demandUnderWay === 0
    if (!(fits && idle) && !first) return undefined
    queue.shift()
    read.started = true
    lane.bytes += read.cost
    if (!isAhead) lane.demandUnderWay++
    return read
  }

  /** Never rejects. */
  async #run(lane: Lane<T>, group: Read<T>[], length: number): Promise<void> {
    const memory = this.#memory.take(length)
    lane.reading++
    const arrived = lane === this.#near || group.length > 1 ? await this.#readGroup(group, memory ?? Buffer.allocUnsafeSlow(length)) : await this.#readOne(group[0], memory)
    lane.reading--
    this.#pump()
    // Memory of a read that failed may still be written to.
    if (arrived.length === 0) return

    const { index, keys } = this.#options
    const members = arrived.flatMap(({ read }) => read.members)
    const locations = arrived.flatMap(({ read }) => read.locations)
    const ids = Buffer.allocUnsafe(members.length * 32)
    for (let i = 0; i < members.length; i++) ids.write(members[i].key, i * 32, 'latin1')
    const entries = new Uint32Array(members.length * 3)
    let at = 0
    for (const { read, start } of arrived) {
      entries.set(decodeEntries(read.locations, read.offset - start), at * 3)
      at += read.members.length
    }
    let results: (T | number)[] | null = null
    let failure: Error | null = null
    try {
      results = await this.#decoding.decode(keys, arrived[0].bytes, entries, ids)
    } catch (error) {
      failure = error as Error
    }
    // Bytes that lie elsewhere: whoever was to put them here may do so late.
    if (arrived[0].bytes.buffer === memory?.buffer) this.#memory.give(memory)
    for (const { read } of arrived) this.#finished(read)
    this.#pump()
    for (let i = 0; i < members.length; i++) {
      const wanted = members[i]
      if (results === null) this.#settle(wanted, failure!)
      else if (typeof results[i] === 'number') {
        this.#bytesWrong(wanted, locations[i], decodeFailure(this.#title(wanted), locations[i], index, results[i] as number))
      } else this.#decoded(wanted, locations[i], results[i] as T)
    }
  }

  async #readOne(read: Read<T>, memory: Buffer | undefined): Promise<Arrived<T>[]> {
    const { backend, index } = this.#options
    try {
      return [{ read, bytes: await readPack(backend, index.packName(read.pack), read.offset, read.length, {
        signal: this.#abort.signal, into: memory, again: read.again, treesUpTo: this.#decoding.kind === 'tree' ? index.treesEnd(read.pack) : undefined,
      }), start: 0 }]
    } catch (error) {
      this.#finished(read)
      this.#readFailed(read, error as Error)
      return []
    }
  }

  /** What does not arrive is read alone, which tells why. */
  async #readGroup(group: Read<T>[], memory: Buffer): Promise<Arrived<T>[]> {
    const { backend, index } = this.#options
    const arrived: Arrived<T>[] = []
    let at = 0
    const ranges = group.map(read => {
      const range = { handle: { type: 'data' as const, name: index.packName(read.pack) }, offset: read.offset, length: read.length, at }
      at += read.length
      return range
    })
    const done = await backend.readRanges!(ranges, memory, { signal: this.#abort.signal }).catch(() => [])
    for (let i = 0; i < group.length; i++) {
      const read = group[i]
      if (done[i] === 1) {
        arrived.push({ read, bytes: memory, start: ranges[i].at })
        continue
      }
      this.#finished(read)
      if (this.#closed) continue
      read.started = false
      read.alone = true
      read.near = false
      this.#far.queue(read.ahead).unshift(read)
    }
    return arrived
  }

  #finished(read: Read<T>): void {
    const lane = this.#lane(read)
    lane.bytes -= read.cost
    if (!read.ahead) lane.demandUnderWay--
  }

  #readFailed(read: Read<T>, error: Error): void {
    if (this.#closed) return
    // A range that ends early or has a bad sector in it: halves, so that all but the blobs concerned are still had, in few reads.
    if (error instanceof CorruptError && read.members.length > 1) {
      const middle = read.members.length >> 1
      const halves = [part(read, 0, middle)!, part(read, middle, read.members.length)!]
      this.#lane(read).queue(read.ahead).unshift(...halves)
      return
    }
    const lost = concernsCopy(error)
    for (let i = 0; i < read.members.length; i++) {
      if (lost) this.#copyFailed(read.members[i], read.locations[i], error)
      else this.#settle(read.members[i], error)
    }
  }

  #decoded(wanted: WantedBlob<T>, location: BlobLocation, item: T): void {
    if (this.#closed) return this.#decoding.discard(item)
    if (wanted.failure !== null) {
      const pack = this.#options.index.packName(location.pack)
      this.#options.log.warn(`a copy of a ${this.#decoding.kind} could not be had, another was taken`, { [this.#decoding.kind]: keyHex(wanted.key), pack, cause: wanted.failure.message, damaged: faultFields(wanted.failure).damaged })
    }
    this.#decoding.arrived(wanted.key, item, () => this.#settle(wanted, item))
  }

  /** The same copy from another source, as long as there is one; then it is this copy that is bad. */
  #bytesWrong(wanted: WantedBlob<T>, location: BlobLocation, error: Error): void {
    if (this.#closed) return
    const again = ++wanted.again
    if (again >= (this.#options.backend.sources ?? 1)) {
      wanted.again = 0
      return this.#copyFailed(wanted, location, error)
    }
    const read = new Read(location.pack, location.offset, location.length, [wanted], [location], wanted.ahead, false)
    read.alone = true
    read.again = again
    this.#far.queue(wanted.ahead).push(read)
    this.#soon()
  }

  #copyFailed(wanted: WantedBlob<T>, location: BlobLocation, error: Error): void {
    if (this.#closed) return
    const tried = wanted.tried ??= []
    tried.push(location)
    // Wrong bytes say more about the blob than a pack that is gone.
    if (!(wanted.failure instanceof CorruptError)) wanted.failure = error
    wanted.locations = wanted.locations.filter(other => !tried.includes(other))
    if (wanted.locations.length > 0) this.#planSoon(wanted)
    else this.#relocate(wanted)
  }

  #relocate(wanted: WantedBlob<T>): void {
    wanted.read = null
    if (wanted.lastRound) return this.#settle(wanted, this.#failure(wanted))
    this.#lost.push(wanted)
    if (!this.#relocating) void this.#relocateAll()
  }

  /** One look at the repository for all who are lost. Never rejects. */
  async #relocateAll(): Promise<void> {
    this.#relocating = true
    while (this.#lost.length > 0 && !this.#closed) {
      // Of this turn's failures all are in the list when the look begins.
      await new Promise(setImmediate)
      const lost = this.#lost
      this.#lost = []
      let failure: Error | null = null
      try {
        await this.refresh()
      } catch (error) {
        failure = error as Error
      }
      if (this.#closed) break
      for (const wanted of lost) {
        wanted.lastRound = true
        wanted.tried = null
        wanted.locations = this.locate(wanted.key, keyId(wanted.key))
        if (wanted.locations.length > 0) this.#planSoon(wanted)
        else this.#settle(wanted, failure ?? this.#failure(wanted))
      }
    }
    this.#relocating = false
  }

  #settle(wanted: WantedBlob<T>, item: T | Error): void {
    // Answered already: by close(), perhaps called by a reader of the same read.
    if (!this.#wanted.delete(wanted.key)) return
    if (wanted.ahead) this.#aheadBytes -= wanted.bytes
    this.deliver(wanted.onItem, wanted.index, item)
    const { others } = wanted
    if (others === null) return
    for (let i = 0; i < others.length; i += 2) this.deliver(others[i] as OnItem<T>, others[i + 1] as number, item)
  }

  #title(wanted: WantedBlob<T>): string { return `${this.#decoding.kind} ${keyHex(wanted.key)}` }

  #failure(wanted: WantedBlob<T>): Error {
    const title = this.#title(wanted)
    const { failure } = wanted
    if (failure === null || failure instanceof NotFoundError) return new NotFoundError(title, failure === null ? undefined : { cause: failure })
    return new CorruptError(title, failure instanceof CorruptError && failure.file === title ? failure.reason : failure.message, { cause: failure })
  }
}

/** One for all: making an Error records the stack, and thousands may be refused in a second. */
const REFUSED = new DaybookError('ERR_ABORTED', 'read-ahead refused: memory is short')
