import { hostname } from 'node:os'
import type { Compression } from '../crypto/encrypt.js'
import { dataLevel, metadataLevel } from '../crypto/encrypt.js'
import { encodeSnapshot, type Snapshot, type SnapshotSummary } from '../format/snapshot.js'
import { formatTimestamp } from '../format/time.js'
import { BlobSaver } from '../repository/blob-saver.js'
import { saveUnpacked, type WriteAccess } from '../repository/save-unpacked.js'
import { username } from '../util/username.js'
import { Archiver, type ArchiverOptions } from './archiver.js'
import type { Stats } from './stats.js'
import type { TargetDirectory } from './targets.js'
import type { LocalIndex } from '../index/index.js'

export interface BackupOptions extends Pick<ArchiverOptions, 'parentRows' | 'selection' | 'matchFlags' | 'onError' | 'onExcluded' | 'onTree' | 'signal'> {
  readonly access: Omit<WriteAccess, 'level'>
  readonly index: Pick<LocalIndex, 'holds' | 'addIndexFile'>
  /** of the repository, hex digits */
  readonly polynomial: string
  readonly compression?: Compression
  readonly verify?: boolean
  readonly dryRun?: boolean
  readonly parent: Snapshot | null
  /** make no snapshot if its tree is the parent's */
  readonly skipIfUnchanged?: boolean
  /** ms since 1970 */
  readonly timeMs: number
  readonly startedMs: number
  readonly hostname?: string
  readonly tags?: readonly string[]
  /** as the snapshot names them: absolute */
  readonly paths: readonly string[]
  readonly excludes?: readonly string[]
  readonly programVersion: string
  /** called once, with what is counted from then on */
  readonly onStart?: (stats: Stats) => void
}

export interface BackupResult {
  /** 64 hex digits; null if none was made */
  readonly snapshot: string | null
  readonly tree: string
  readonly stats: Stats
  readonly summary: SnapshotSummary
}

/** packs on their way to a remote at once: each takes 16 MiB of memory */
const REMOTE_UPLOADS = 3
/** ... into a folder, where one is written while the other waits for the disk */
const LOCAL_UPLOADS = 2

/** Save targets and make a snapshot of them: packs first, then index files, the snapshot last, so that whoever finds it finds all of it. */
export async function backup(targets: () => Promise<TargetDirectory>, options: BackupOptions): Promise<BackupResult> {
  const { compression = 'auto', parent, dryRun, signal } = options
  const access: WriteAccess = { ...options.access, level: metadataLevel(compression) }
  const uploads = access.backend.connections > 4 ? REMOTE_UPLOADS : LOCAL_UPLOADS
  const blobs = new BlobSaver({ access, index: options.index, dataLevel: dataLevel(compression), verify: options.verify, uploads, dryRun, signal })
  const archiver = new Archiver({ ...options, blobs })
  options.onStart?.(archiver.stats)
  let tree: Buffer
  try {
    tree = await archiver.save(await targets(), parent?.tree ?? null)
    await blobs.flush()
  } catch (error) {
    await blobs.settle()
    throw error
  }
  const { stats } = archiver
  const summary = summaryOf(stats, options.startedMs)
  const result = { tree: tree.toString('hex'), stats, summary }
  if (dryRun || options.skipIfUnchanged && parent?.tree.equals(tree)) return { ...result, snapshot: null }
  const snapshot = encodeSnapshot({
    time: formatTimestamp(options.timeMs), parent: parent?.id ?? null, tree: result.tree, paths: options.paths, hostname: options.hostname ?? hostname(),
    username: username(), uid: process.getuid!(), gid: process.getgid!(), excludes: options.excludes ?? [], tags: options.tags ?? [],
    programVersion: options.programVersion, summary,
  })
  return { ...result, snapshot: await saveUnpacked(access, 'snapshots', snapshot, { signal }) }
}

function summaryOf(stats: Stats, startedMs: number): SnapshotSummary {
  const { files, dirs } = stats
  return {
    backup_start: formatTimestamp(startedMs), backup_end: formatTimestamp(Date.now()),
    files_new: files.new, files_changed: files.changed, files_unmodified: files.unmodified, dirs_new: dirs.new, dirs_changed: dirs.changed, dirs_unmodified: dirs.unmodified,
    data_blobs: stats.dataBlobs, tree_blobs: stats.treeBlobs, data_added: stats.added, data_added_packed: stats.stored,
    total_files_processed: stats.processedFiles, total_bytes_processed: stats.processedBytes,
  }
}
