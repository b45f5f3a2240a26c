import { spawn } from 'node:child_process'
import type { LocationHealth } from '../backend/backend.js'
import type { MaybeAway } from '../cache/open-cached.js'
import { DaybookError, faultFields } from '../errors.js'
import { RowsFlag } from '../format/tree-rows.js'
import type { Snapshot } from '../format/snapshot.js'
import { FileSystem } from '../fs/file-system.js'
import { daysLayout, inheritNames, resticLayout, type LayoutDirectory } from '../fs/layout.js'
import { Transport } from '../fuse/libfuse3/transport.js'
import type { LocalIndex } from '../index/index.js'
import { openIndex } from '../index/open-index.js'
import { native } from '../native.js'
import { BlobLoader, CACHED_BUDGETS, REMOTE_BUDGETS } from '../repository/blob-loader.js'
import { REMOTE_TREE_LIMITS } from '../repository/fetch-plan.js'
import { filterSnapshots } from '../repository/filter.js'
import { IndexSync } from '../repository/sync-index.js'
import { TreeLoader } from '../repository/tree-loader.js'
import { guard } from './guard.js'
import { beginOpening, type Opening } from './opening.js'
import type { MountOptions, RunningMount } from './options.js'
import { SnapshotRoots } from './snapshot-roots.js'
import type { MountStatus } from './status/record.js'
import { mountAt, readMountTable } from './mount-table.js'
import { unmountEntry } from './unmount.js'
import { viewOf } from './view.js'

/** What `ls` asks of every file, and most files of most backups do not have. */
const ACL_XATTRS = ['system.posix_acl_access', 'system.posix_acl_default']
const SELINUX_XATTR = 'security.selinux'
/** umount2(2): MNT_DETACH | UMOUNT_NOFOLLOW */
const DETACH = 2 | 8
/** Between two looks whether an index being filled knows a tree by now; a look takes microseconds. */
const LOCATE_MS = 3
/** Between two searches for blobs that are in no index file: they list all packs and read the whole local index. */
const SEARCH_MS = 10 * 60_000

/**
 * Open a repository and serve it at the mountpoint, from this process's event loop. Ready as soon as the list of snapshots is known: index files
 * and trees are read in the background, and whoever needs one sooner waits for it alone.
 * @throws DaybookError, or Error with code and errno when the kernel refuses the mount; nothing is left behind then
 */
export async function startMount(options: MountOptions, opening: Opening = beginOpening(options)): Promise<RunningMount> {
  const mount = new Mount(options, opening)
  try {
    await mount.start()
    return mount
  } catch (error) {
    await mount.stop()
    throw error
  }
}

class Mount implements RunningMount {
  readonly mountpoint: string
  readonly closed: Promise<number>
  readonly #options: MountOptions
  readonly #opening: Opening
  readonly #abort: AbortController
  /** undone in reverse order by stop() */
  readonly #opened: (() => void | Promise<void>)[] = []
  readonly #transport: Transport
  #fs!: FileSystem
  #sync!: IndexSync
  #trees!: TreeLoader
  #roots!: SnapshotRoots
  #putDayNames: (names: Map<string, string>) => Promise<void> = async () => {}
  #dayNames = new Map<string, string>()
  #flatHost: string | null = null
  #snapshots: readonly Snapshot[] = []
  #shown = ''
  #newest: string | null = null
  #indexLoaded: Promise<unknown> = Promise.resolve()
  #indexIsLoaded = false
  #index!: LocalIndex
  #backend!: MaybeAway
  readonly #sinceMs = Date.now()
  /** the last look at the repository, where it failed, and since when they do */
  #lookFailure: { readonly sinceMs: number, readonly lastError: NonNullable<LocationHealth['lastError']> } | null = null
  /** when unexplained blobs were last searched for; performance.now() */
  #searched = -Infinity
  #refreshing: Promise<void> | null = null
  #stopped: Promise<void> | null = null

  constructor(options: MountOptions, opening: Opening) {
    this.#options = options
    this.#opening = opening
    this.#abort = opening.abort
    this.mountpoint = options.mountpoint
    this.#transport = new Transport({
      mountpoint: Buffer.from(options.mountpoint), source: 'daybook', allowOther: options.allowOther, owner: options.owner, log: options.log,
    })
    this.closed = this.#transport.closed.then(async errno => {
      await this.stop()
      return errno
    })
  }

  async start(): Promise<void> {
    const { cacheDir, log, allowOther, pollSeconds } = this.#options
    const { signal } = this.#abort
    const backend = await this.#opening.backend
    this.#backend = backend
    this.#opened.push(() => backend.close())
    const repository = await this.#opening.repository
    this.#opened.push(() => repository.close())
    const index = this.#index = await openIndex({ cacheDir, repositoryId: repository.id, log })
    this.#opened.push(() => index.close())
    const sync = this.#sync = new IndexSync(repository, index, { signal, log })
    this.#opened.push(() => sync.close())

    // An index that is still being filled answers for nothing: who misses a blob waits for that first.
    const learn = async (): Promise<boolean> => {
      if (this.#indexIsLoaded) return this.#learnMore()
      await this.#indexLoaded
      return true
    }
    const { keys } = repository
    const located = (id: Uint8Array) => this.#located(id)
    const far = this.#options.repository.location.scheme !== 'local'
    const blobs = new BlobLoader({ backend, keys, index, native, refresh: learn, located, log, signal, ...far ? backend.near === undefined ? REMOTE_BUDGETS : CACHED_BUDGETS : {} })
    this.#opened.push(() => blobs.close())
    const trees = this.#trees = new TreeLoader({ backend, keys, index, native, refresh: learn, located, busy: () => blobs.busy, log, signal, ...far ? { plan: REMOTE_TREE_LIMITS } : {} })
    this.#opened.push(() => trees.close())
    this.#roots = new SnapshotRoots(trees, this.#options.subtree, log)
    this.#fs = new FileSystem({ trees, blobs, pages: this.#transport, owner: { uid: process.getuid!(), gid: process.getgid!() }, usage: () => usageOf(this.#snapshots) })
    this.#opened.push(() => this.#transport.close())

    const view = viewOf(this.#options, this.#options.subtree)
    this.#dayNames = index.dayNames(view)
    this.#putDayNames = names => index.putDayNames(view, names)

    this.#options.progress?.('reading snapshots', 0, null)
    await sync.syncSnapshots()
    this.#indexLoaded = sync.syncIndexFiles()
    this.#indexLoaded.catch((error: Error) => { if (!signal.aborted) log.error(`cannot read the index: ${error.message}`) }).finally(() => { this.#indexIsLoaded = true })
    if (this.#options.subtree !== null) {
      this.#options.progress?.('reading the index', 0, null)
      await this.#indexLoaded
    }
    await this.#show()
    this.#transport.mount(this.#fs)
    this.#opened.push(guard.hold(this.#transport.device.minor, log))

    const absent = () => this.#transport.setAbsentXattrs(absentXattrs(trees, allowOther))
    trees.onFlagsKnown(absent)
    trees.onFlags(absent)
    void this.#indexLoaded.then(() => this.#indexChanged()).catch(() => {})
    const look = () => void this.refresh().catch((error: Error) => log.warn(`cannot look for new snapshots: ${error.message}`, faultFields(error)))
    backend.onBack?.(() => {
      look()
      void trees.fillInBackground().catch(() => {})
    })
    if (pollSeconds > 0) {
      const timer = setInterval(look, pollSeconds * 1000)
      this.#opened.push(() => clearInterval(timer))
    }
  }

  refresh(): Promise<void> {
    return this.#refreshing ??= this.#refresh().then(() => { this.#lookFailure = null }, (error: DaybookError) => {
      if (error.code === 'ERR_UNREACHABLE') {
        const timeMs = Date.now()
        this.#lookFailure = { sinceMs: this.#lookFailure?.sinceMs ?? timeMs, lastError: { timeMs, message: error.message } }
      }
      throw error
    }).finally(() => { this.#refreshing = null })
  }

  async #refresh(): Promise<void> {
    await this.#indexLoaded.catch(() => {})
    const { newIndexFiles, removedIndexFiles } = await this.#sync.refresh()
    if (newIndexFiles + removedIndexFiles > 0) this.#indexChanged()
    await this.#show()
  }

  /** A big index takes seconds to read; trees come first in it, and most of what is asked for is there long before the end. */
  async #located(id: Uint8Array): Promise<void> {
    while (!this.#indexIsLoaded && !this.#abort.signal.aborted && this.#index.locate(id).length === 0) await new Promise(resolve => setTimeout(resolve, LOCATE_MS))
  }

  /** A blob that no index file explains: look at the repository again; then for packs that no index file lists; then at the local index itself. */
  async #learnMore(): Promise<boolean> {
    const { newIndexFiles, removedIndexFiles, recovery } = await this.#sync.refresh()
    let learnt = newIndexFiles + removedIndexFiles + await recovery > 0
    if (!learnt && performance.now() - this.#searched > SEARCH_MS) {
      this.#searched = performance.now()
      learnt = await this.#sync.recoverPacks() > 0
      if (!learnt && !await this.#index.check()) {
        await this.#sync.refresh()
        learnt = true
      }
    }
    if (learnt) this.#indexChanged()
    return learnt
  }

  #indexChanged(): void {
    this.#trees.indexChanged()
    // until the new trees have been seen, nobody can say which attributes are on no file
    this.#transport.setAbsentXattrs(absentXattrs(this.#trees, this.#options.allowOther))
    void this.#trees.fillInBackground().catch((error: Error) => { if (!this.#abort.signal.aborted) this.#options.log.warn(`cannot index all trees: ${error.message}`) })
  }

  /** Bring the tree in line with the snapshots there are. */
  async #show(): Promise<void> {
    const { snapshots, missing } = filterSnapshots(this.#sync.snapshots, this.#options)
    for (const name of missing) this.#options.log.warn(`no snapshot ${name}`)
    const shown = await this.#roots.prepare(snapshots)
    const fingerprint = shown.map(({ id }) => id).join()
    if (fingerprint === this.#shown && this.#shown !== '') return
    this.#shown = fingerprint
    const layout = this.#layout(shown)
    this.#snapshots = shown
    const changes = this.#fs.show(layout, snapshot => this.#roots.of(snapshot))
    const byParent = new Map<number, string[]>()
    for (const change of changes) {
      const parent = this.#fs.nodeOfChange(change)
      byParent.set(parent, [...byParent.get(parent) ?? [], change.name])
    }
    for (const [parent, names] of byParent) void this.#transport.changed(parent, names).catch(() => {})
  }

  #layout(snapshots: readonly Snapshot[]): LayoutDirectory {
    if (this.#options.layout === 'restic') {
      this.#newest = snapshots.at(-1)?.time ?? null
      return resticLayout(snapshots)
    }
    if (this.#flatHost === null) {
      const hosts = new Set(snapshots.map(({ hostname }) => hostname))
      this.#flatHost = hosts.size === 1 ? [...hosts][0] : hosts.size > 1 ? '\0' : null
    }
    const { root, names } = daysLayout(snapshots, inheritNames(this.#dayNames, this.#snapshots, snapshots), this.#flatHost)
    this.#dayNames = names
    void this.#putDayNames(names).catch(() => {})
    const newest = snapshots.at(-1)
    this.#newest = newest === undefined ? null : names.get(newest.id) ?? null
    return root
  }

  async unmount(): Promise<'unmounted' | 'busy'> {
    const entry = mountAt(readMountTable(), this.mountpoint)
    if (entry === null) return 'unmounted'
    try {
      await unmountEntry(entry, this.mountpoint, false)
      return 'unmounted'
    } catch (error) {
      if ((error as DaybookError).code === 'ERR_ABORTED') return 'busy'
      throw error
    }
  }

  detach(): void {
    try {
      native.umount2(Buffer.from(this.mountpoint), DETACH)
    } catch {
      // an ordinary user's mount is fusermount3's to unmount; nobody waits for it, since this may be the last thing the process does
      spawn('fusermount3', ['-u', '-z', '--', this.mountpoint], { stdio: 'ignore', detached: true }).on('error', () => {}).unref()
    }
  }

  stop(): Promise<void> { return this.#stopped ??= this.#stop() }

  async #stop(): Promise<void> {
    this.#abort.abort(new DaybookError('ERR_ABORTED', 'the mount ends'))
    this.#transport.close()
    for (const close of this.#opened.reverse()) {
      try { await close() } catch (error) { this.#options.log.debug(`closing: ${(error as Error).message}`) }
    }
  }

  summary(): { snapshots: number, newest: string | null } { return { snapshots: this.#snapshots.length, newest: this.#newest } }
  stats(): Record<string, number> { return { ...this.#transport.stats(), ...this.#locationStats() } }

  async status(): Promise<Omit<MountStatus, 'state' | 'damage' | 'errors'>> {
    const newest = this.#snapshots.at(-1)
    const use = await this.#backend.diskUse?.() ?? null
    return {
      mountpoint: this.mountpoint, repository: this.#options.repository.location.display, since: iso(this.#sinceMs),
      snapshots: this.#snapshots.length, newest: newest === undefined ? null : { name: this.#newest ?? newest.time, time: iso(newest.timeMs) },
      cache: use === null ? null : { used_bytes: use.usedBytes, max_bytes: use.maxBytes },
      locations: this.#health().map(({ sinceMs, lastError, ...rest }) => ({
        ...rest, since: sinceMs === null ? null : iso(sinceMs), last_error: lastError === null ? null : { time: iso(lastError.timeMs), message: lastError.message },
      })),
    }
  }

  /** A folder keeps no account of itself: whether the last look at it went well has to do. */
  #health(): LocationHealth[] {
    const health = this.#backend.health?.() ?? []
    const failure = this.#lookFailure
    return health.length > 0 ? health : [{
      location: this.#options.repository.location.display, state: failure === null ? 'up' : 'down', sinceMs: failure?.sinceMs ?? null, lastError: failure?.lastError ?? null,
      answers: 0, failures: 0, overtaken: 0, missing: 0, damaged: 0,
    }]
  }

  #locationStats(): Record<string, number> {
    const counters = this.#health().flatMap(({ location: _, state, sinceMs: _since, lastError: _error, ...counts }, i) =>
      Object.entries({ up: state === 'up' ? 1 : 0, ...counts }).map(([name, count]) => [`location${i + 1}.${name}`, count] as const))
    return Object.fromEntries(counters)
  }
}

/**
 * Names of attributes that are on no file of the repository, which ls may be told: told once that the device knows no such name, it stops asking
 * for every file. Only once all trees were seen; and with the kernel's permission check on, never for ACLs, which it would take for an error.
 */
function absentXattrs(trees: { flagsKnown: boolean, flags: number }, permissionCheck: boolean): string[] {
  if (!trees.flagsKnown) return []
  return [
    ...(trees.flags & RowsFlag.selinux ? [] : [SELINUX_XATTR]),
    ...(trees.flags & RowsFlag.acl || permissionCheck ? [] : ACL_XATTRS),
  ]
}

/** For df: what the newest snapshot holds, as far as the program that wrote it said so. */
function usageOf(snapshots: readonly Snapshot[]): { bytes: number, files: number } {
  const summary = snapshots.at(-1)?.summary as { total_bytes_processed?: unknown, total_files_processed?: unknown } | null | undefined
  const count = (value: unknown) => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : 0
  return { bytes: count(summary?.total_bytes_processed), files: count(summary?.total_files_processed) }
}

function iso(ms: number): string { return new Date(ms).toISOString() }
