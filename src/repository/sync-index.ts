import { setMaxListeners } from 'node:events'
import type { FileInfo } from '../backend/backend.js'
import { CorruptError, DaybookError, faultFields, NotFoundError } from '../errors.js'
import { compareSnapshots, decodeSnapshot } from '../format/snapshot.js'
import type { Snapshot } from '../format/snapshot.js'
import type { LocalIndex } from '../index/index.js'
import { throwIfAborted } from '../util/abort.js'
import { Budget, forEachLimited } from '../util/concurrency.js'
import { silentLogger } from '../util/log.js'
import type { Logger } from '../util/log.js'
import { SharedRun } from '../util/single-flight.js'
import { PackRecovery } from './pack-recovery.js'
import type { Repository } from './repository.js'
import { SNAPSHOTS_AT_ONCE } from './snapshots.js'

export interface SyncOptions {
  /** ends whatever is under way, with ERR_ABORTED */
  signal?: AbortSignal
  log?: Logger
  /** called once per damaged or unreadable file */
  onDamaged?: (error: DaybookError) => void
  /** for tests: ms, as performance.now() */
  now?: () => number
}

export interface SnapshotsSynced {
  /** all that can be read, oldest first */
  readonly snapshots: readonly Snapshot[]
  /** ids, since the last look of this IndexSync */
  readonly added: readonly string[]
  readonly removed: readonly string[]
  /** what is wrong with those left out, whether reported before or not */
  readonly damaged: readonly DaybookError[]
}

export interface IndexFilesSynced {
  readonly newIndexFiles: number
  readonly removedIndexFiles: number
  readonly damaged: readonly DaybookError[]
  /** Where index files are damaged: packs found by their own headers, in the background. Number of packs added. Never rejects. */
  readonly recovery: Promise<number>
}

export interface SyncResult extends Omit<SnapshotsSynced, 'damaged'>, IndexFilesSynced {
  /** Was anything new or gone: a snapshot or an index file? */
  readonly changed: boolean
}

// Index files in memory at once, encrypted, decompressed and waiting for the worker. JSON of ids compresses to a half or a third.
const INDEX_BYTES_AT_ONCE = 20 << 20
const COMPRESSION = 4
const INDEX_FILES_AT_ONCE = 4
// What was corrupt may have become so on its way here, several times in a row; or it is so for good, and costs its length each time.
const FIRST_AGAIN_MS = 60_000
const LAST_AGAIN_MS = 3600_000
// A prune that runs meanwhile deletes files that were listed, after it has written their replacement: list again, but not for ever.
const MAX_ROUNDS = 4

/** A file that cannot be read, why, and its size then. A corrupt one is not read again until that changes, or for some time. */
interface Bad { readonly size: number, readonly error: DaybookError, readonly waitMs: number, readonly againAt: number }

/**
 * Keeps the local index in step with the repository.
 *
 * Snapshots are listed before the index files: the other way round, a backup that finishes in between shows a snapshot whose trees the
 * index does not know yet (design.rst, "Read and Write Ordering"). Calls while a look is under way share the next one.
 */
export class IndexSync {
  readonly #repository: Repository
  readonly #index: LocalIndex
  readonly #abort = new AbortController()
  readonly #signal: AbortSignal
  readonly #log: Logger
  readonly #onDamaged: (error: DaybookError) => void
  readonly #now: () => number
  readonly #reported = new Set<string>()
  readonly #decoded = new Map<string, Snapshot>()
  readonly #badSnapshots = new Map<string, Bad>()
  readonly #badIndexFiles = new Map<string, Bad>()
  readonly #recovery: PackRecovery
  readonly #snapshotRun = new SharedRun(() => this.#syncSnapshots())
  readonly #indexRun = new SharedRun(() => this.#syncIndexFiles())
  readonly #refreshRun = new SharedRun(() => this.#refresh())
  readonly #stopReset: () => void
  #snapshots: readonly Snapshot[] = []
  #lastIndexList = ''

  constructor(repository: Repository, index: LocalIndex, { signal, log = silentLogger, onDamaged = () => {}, now = () => performance.now() }: SyncOptions = {}) {
    this.#repository = repository
    this.#index = index
    this.#signal = signal ? AbortSignal.any([signal, this.#abort.signal]) : this.#abort.signal
    setMaxListeners(0, this.#signal) // every request listens
    this.#log = log
    this.#onDamaged = onDamaged
    this.#now = now
    this.#recovery = new PackRecovery(repository, index, { signal: this.#signal, log, report: error => this.#report(error) })
    this.#stopReset = index.onReset(reason => {
      log.info('the local index starts anew', { reason })
      this.#lastIndexList = ''
      this.refresh().catch(error => { if (!this.#signal.aborted) log.warn('cannot fill the local index', { error }) })
    })
  }

  /** As of the last look, oldest first. */
  get snapshots(): readonly Snapshot[] { return this.#snapshots }

  /** Read new snapshots, drop forgotten ones. Done before any index file is looked at, so that a mount can show them at once. */
  syncSnapshots(): Promise<SnapshotsSynced> { return this.#snapshotRun.run() }

  /** Read new index files, drop those gone. To be called behind syncSnapshots(). */
  syncIndexFiles(): Promise<IndexFilesSynced> { return this.#indexRun.run() }

  /** Both, in the right order; shared by all who ask. */
  refresh(): Promise<SyncResult> { return this.#refreshRun.run() }

  /** Look through data/ for packs that no index file lists, and read their headers. For blobs that stay unknown after a refresh. @returns packs added */
  recoverPacks(): Promise<number> { return this.#recovery.run() }

  /** Gives up what is under way. */
  close(): void {
    this.#stopReset()
    this.#abort.abort()
  }

  async #refresh(): Promise<SyncResult> {
    const { snapshots, added, removed, damaged } = await this.syncSnapshots()
    const files = await this.syncIndexFiles()
    return {
      ...files, snapshots, added, removed,
      damaged: [...damaged, ...files.damaged],
      changed: added.length + removed.length + files.newIndexFiles + files.removedIndexFiles > 0,
    }
  }

  async #syncSnapshots(): Promise<SnapshotsSynced> {
    const stored = this.#index.snapshots()
    const { files, partial } = await this.#list('snapshots', this.#decoded.size > 0)
    // As long as the location that would know does not answer, what was there is there.
    if (partial) addMissing(files, [...this.#decoded.keys(), ...stored.keys()])
    const listed = new Set(files.map(({ name }) => name))
    const loaded = new Map<string, string>()
    const before = new Set(this.#snapshots.map(({ id }) => id))
    forgetMissing(this.#decoded, listed)
    forgetMissing(this.#badSnapshots, listed)

    await forEachLimited(files, SNAPSHOTS_AT_ONCE, async file => {
      const { name } = file
      if (this.#decoded.has(name)) return
      const known = stored.get(name)
      const snapshot = known === undefined ? null : this.#decodeStored(name, known)
      if (snapshot) this.#decoded.set(name, snapshot)
      else {
        await this.#guard('snapshot', file, this.#badSnapshots, async () => {
          const json = await this.#repository.loadUnpacked('snapshots', name, { signal: this.#signal })
          this.#decoded.set(name, decodeSnapshot(name, json))
          loaded.set(name, json.toString('utf8'))
        })
      }
    })

    // All of them unreadable is no empty repository, but one that cannot be reached.
    if (this.#decoded.size === 0 && files.length > 0) this.#throwIfUnreachable(this.#badSnapshots)
    const gone = [...stored.keys()].filter(name => !listed.has(name))
    // What the disk was too full to keep is read again next time. Nobody waits for it: a mount can show what it has read.
    if (loaded.size > 0 || gone.length > 0) {
      this.#index.putSnapshots(loaded, gone).catch(error => { if (!this.#signal.aborted) this.#log.warn('cannot keep snapshots in the local index', { error }) })
    }
    this.#snapshots = [...this.#decoded.values()].sort(compareSnapshots)
    return {
      snapshots: this.#snapshots,
      added: this.#snapshots.filter(({ id }) => !before.has(id)).map(({ id }) => id),
      removed: [...before].filter(id => !this.#decoded.has(id)),
      damaged: errorsOf(this.#badSnapshots),
    }
  }

  #decodeStored(name: string, json: string): Snapshot | null {
    try {
      return decodeSnapshot(name, Buffer.from(json))
    } catch {
      return null // it was right when it was stored: take it from the repository
    }
  }

  async #syncIndexFiles(): Promise<IndexFilesSynced> {
    let added = 0
    let files: FileInfo[] = []
    for (let round = 1; ; round++) {
      const found = await this.#list('index', this.#index.indexFiles().size > 0)
      files = found.files
      if (found.partial) addMissing(files, this.#index.indexFiles())
      const { added: more, vanished } = await this.#addIndexFiles(files)
      added += more
      if (!vanished || round === MAX_ROUNDS) break
    }
    this.#repository.prefetch?.drop()
    const listed = new Set(files.map(({ name }) => name))
    // Behind the additions: what a prune moved is found at its new place before the old one is forgotten.
    const gone = [...this.#index.indexFiles()].filter(name => !listed.has(name))
    if (gone.length > 0) await this.#index.removeIndexFiles(gone)
    forgetMissing(this.#badIndexFiles, listed)
    return { newIndexFiles: added, removedIndexFiles: gone.length, damaged: errorsOf(this.#badIndexFiles), recovery: this.#recoverIfNeeded(files) }
  }

  async #addIndexFiles(files: readonly FileInfo[]): Promise<{ added: number, vanished: boolean }> {
    const known = this.#index.indexFiles()
    const budget = new Budget(INDEX_BYTES_AT_ONCE)
    let added = 0
    let vanished = false
    // Small ones first: those are of the last days, and hold the trees of which `latest` is made; one large one may take as long as all of them.
    const fresh = files.filter(({ name }) => !known.has(name)).sort((a, b) => a.size - b.size)
    const writes: Promise<void>[] = []
    await forEachLimited(fresh, INDEX_FILES_AT_ONCE, async file => {
      const release = await budget.acquire(file.size * (this.#repository.version >= 2 ? COMPRESSION : 1))
      // Reading and decoding goes on while the worker writes, as far as memory allows.
      await new Promise<void>(located => {
        const write = this.#guard('index file', file, this.#badIndexFiles, async () => {
          await this.#addIndexFile(file.name, located)
          added++
        }, () => { vanished = true })
        const done = () => {
          release()
          located()
        }
        write.then(done, done)
        writes.push(write)
      })
    })
    await Promise.all(writes)
    if (added === 0 && known.size === 0 && files.length > 0) this.#throwIfUnreachable(this.#badIndexFiles)
    return { added, vanished }
  }

  async #addIndexFile(name: string, located: () => void): Promise<void> {
    return this.#index.addIndexFile(name, await this.#repository.loadIndexFile(name, { signal: this.#signal }), located)
  }

  /** data/ is listed only when a bad index file may hide packs, and the list of index files is not the one it was listed for before. */
  #recoverIfNeeded(files: readonly FileInfo[]): Promise<number> {
    if (this.#badIndexFiles.size === 0) return Promise.resolve(0)
    const list = files.map(({ name }) => name).sort().join()
    if (list === this.#lastIndexList) return this.#recovery.last
    this.#lastIndexList = list
    return this.#recovery.run().catch(error => {
      this.#lastIndexList = ''
      if (!this.#signal.aborted) this.#log.warn('cannot look for packs of damaged index files', { error })
      return 0
    })
  }

  /** The files of a type now; `partial`: there may be more. An empty folder may be a disk that is not mounted: then nothing is forgotten. */
  async #list(type: 'snapshots' | 'index', wasFilled: boolean): Promise<{ files: FileInfo[], partial: boolean }> {
    throwIfAborted(this.#signal)
    let isPartial = false
    const partial = () => { isPartial = true }
    const files = await this.#repository.prefetch?.takeList(type, partial) ?? await this.#repository.list(type, { signal: this.#signal, partial })
    if (files.length === 0 && wasFilled) {
      await this.#repository.backend.stat({ type: 'config', name: '' }, { signal: this.#signal }).catch(cause => {
        throw new DaybookError('ERR_UNREACHABLE', `the repository at ${this.#repository.backend.location} is gone`, 'is its disk still mounted?', { cause })
      })
    }
    return { files: [...files], partial: isPartial }
  }

  /** Do it for one file; what is wrong with that file is noted and stays with it. */
  async #guard(kind: string, { name, size }: FileInfo, bad: Map<string, Bad>, work: () => Promise<void>, vanished = () => {}): Promise<void> {
    const before = bad.get(name)
    if (before?.error instanceof CorruptError && before.size === size && this.#now() < before.againAt) return
    try {
      await work()
      bad.delete(name)
    } catch (error) {
      if (error instanceof NotFoundError) return vanished()
      if (!(error instanceof DaybookError) || this.#signal.aborted || error.code === 'ERR_INDEX') throw error
      const waitMs = Math.min(LAST_AGAIN_MS, before === undefined ? FIRST_AGAIN_MS : before.waitMs * 2)
      bad.set(name, { size, error, waitMs, againAt: this.#now() + waitMs })
      this.#report(error, `${kind} ${name}`)
    }
  }

  #report(error: DaybookError, file = error.message): void {
    if (this.#reported.has(file)) return
    this.#reported.add(file)
    this.#log.warn(error.message, faultFields(error))
    this.#onDamaged(error)
  }

  #throwIfUnreachable(bad: ReadonlyMap<string, { error: DaybookError }>): void {
    const errors = errorsOf(bad)
    if (errors.length > 0 && errors.every(({ code }) => code === 'ERR_UNREACHABLE')) throw errors[0]
  }
}

/** One look at everything, for commands that end afterwards; recovery of packs is waited for. */
export async function syncIndex(repository: Repository, index: LocalIndex, options: SyncOptions = {}): Promise<SyncResult> {
  const sync = new IndexSync(repository, index, options)
  try {
    const result = await sync.refresh()
    await result.recovery
    return result
  } finally {
    sync.close()
  }
}

function errorsOf(bad: ReadonlyMap<string, { error: DaybookError }>): DaybookError[] {
  return [...bad.values()].map(({ error }) => error)
}

/** Files of which no list speaks. Their sizes are not known, and nobody asks for them. */
function addMissing(files: FileInfo[], names: Iterable<string>): void {
  const listed = new Set(files.map(({ name }) => name))
  for (const name of new Set(names)) if (!listed.has(name)) files.push({ name, size: 0 })
}

function forgetMissing(map: Map<string, unknown>, listed: ReadonlySet<string>): void {
  for (const name of map.keys()) if (!listed.has(name)) map.delete(name)
}
