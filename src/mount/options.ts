import type { Location } from '../backend/location.js'
import type { BackendOptions } from '../backend/options.js'
import type { DiskCacheSettings } from '../cache/open-cached.js'
import type { Logger } from '../util/log.js'
import type { MountStatus } from './status/record.js'

/** Where the repository is and how to open it. */
export interface RepositoryAccess {
  readonly location: Location
  /** further locations of it, in order of preference */
  readonly replicas: readonly Location[]
  readonly backend: BackendOptions
  /** The password, empty for a repository without one. Called at most once per start, when it is first needed: a file is read, a command run or a person asked only then. */
  readonly password: () => Promise<Buffer>
  /** id (or the beginning of it) of the key file to try first */
  readonly keyHint: string | null
}

export const LAYOUTS = ['days', 'restic'] as const
export type Layout = typeof LAYOUTS[number]

/** Which snapshots are shown, as restic's --host, --tag, --path mean it; with `snapshots`, those and no others. */
export interface SnapshotSelection {
  /** any of these; [] is all */
  readonly hosts: readonly string[]
  /** any of these lists, of each list every tag; [] is all */
  readonly tags: readonly (readonly string[])[]
  /** every one of these; [] is all */
  readonly paths: readonly string[]
  /** ids, beginnings of ids, or 'latest'; [] is all */
  readonly snapshots: readonly string[]
}

/** All that a mount needs to know. Nothing in it changes while the mount lives. */
export interface MountOptions extends SnapshotSelection {
  readonly repository: RepositoryAccess
  /** absolute path without symlinks in it */
  readonly mountpoint: string
  readonly layout: Layout
  /** path inside each snapshot that becomes its root, absolute, without '.' and '..'; null: the whole snapshot */
  readonly subtree: string | null
  /** shown instead of every node's owner */
  readonly owner: { readonly uid: number, readonly gid: number } | null
  readonly allowOther: boolean
  /** absolute path; one folder per repository id is made below it */
  readonly cacheDir: string
  /** of remotes, what was read is kept there as well; null: it is not */
  readonly diskCache: DiskCacheSettings | null
  /** between two looks for new snapshots; 0: only when told to (SIGHUP) */
  readonly pollSeconds: number
  readonly log: Logger
  /** told while starting, for whoever waits: 'loading index', files done, files in all (null: unknown) */
  readonly progress?: (stage: string, done: number, total: number | null) => void
}

/** A mount being served by this process; src/mount/serve.ts makes it. */
export interface RunningMount {
  readonly mountpoint: string
  /** settles when nothing is served any more: 0 after an unmount, else the errno that broke the connection */
  readonly closed: Promise<number>
  /** look for new and forgotten snapshots now */
  refresh(): Promise<void>
  /** Unmount if nobody uses it. 'busy': still mounted and served. */
  unmount(): Promise<'unmounted' | 'busy'>
  /** Take it out of the directory tree, and go on serving what is open; `closed` settles with the last of it. */
  detach(): void
  /** End at once: what is open gets EIO, everything is freed. */
  stop(): Promise<void>
  summary(): { snapshots: number, newest: string | null }
  /** Never waits for a remote. */
  status(): Promise<Omit<MountStatus, 'state' | 'damage' | 'errors'>>
  /** counters for SIGUSR1 */
  stats?(): Record<string, number>
}
