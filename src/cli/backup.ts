import { hostname } from 'node:os'
import { backup, type BackupResult } from '../archiver/backup.js'
import { findParent } from '../archiver/parent.js'
import { COMPRESSIONS, type Compression } from '../crypto/encrypt.js'
import { DaybookError } from '../errors.js'
import type { Snapshot } from '../format/snapshot.js'
import { MatchFlag, native } from '../native.js'
import { parseTagList, selectSnapshots } from '../repository/filter.js'
import { RowsStore } from '../repository/rows-store.js'
import { TreeLoader } from '../repository/tree-loader.js'
import type { BackupCommandOptions } from './backup-options.js'
import { BackupProgress } from './backup-progress.js'
import { collectTargets, type Targets } from './backup-targets.js'
import { backupSelection } from './backup-selection.js'
import { EXIT } from './exit-codes.js'
import { DeadBuffers } from '../util/dead-buffers.js'
import { idKey } from '../util/id-key.js'
import { openWriter, type Writer } from './open-writer.js'
import { parseTime } from './values.js'
import { version } from '../util/version.js'

/** Bytes of rows of new trees that wait for the index. */
const ROWS_BYTES = 8 << 20
/** Bytes of rows after which dead ones are collected. */
const COLLECT_BYTES = 8 << 20

/** Save files and directories as a snapshot. @returns 3 if something could not be read */
export async function backupCommand(options: BackupCommandOptions, paths: string[]): Promise<number> {
  const startedMs = Date.now()
  const compression = options.compression as Compression
  if (!COMPRESSIONS.includes(compression)) throw new DaybookError('ERR_USAGE', `--compression ${options.compression}: not one`, COMPRESSIONS.join(', '))
  const timeMs = options.time === undefined ? startedMs : parseTime('--time', options.time)
  const selection = await backupSelection(options)
  const progress = new BackupProgress(options)
  const targets = await collectTargets(options, paths, timeMs, error => progress.failed(error))
  const writer = await openWriter(options)
  try {
    let synced: Promise<readonly Snapshot[]> | null = null
    const unlock = options.dryRun ? async () => {} : await writer.lock({ exclusive: false, onCreated: () => { synced = syncWell(writer) } })
    try {
      const result = await run(writer, options, { snapshots: await (synced ?? syncWell(writer)), targets, timeMs, startedMs, compression, progress, selection })
      progress.finish(result, options.dryRun ?? false)
      return progress.errors > 0 ? EXIT.incomplete : EXIT.ok
    } finally {
      progress.stop()
      await unlock()
    }
  } catch (error) {
    throw lostLock(writer, error)
  } finally {
    await writer.close()
  }
}

interface Run {
  readonly snapshots: readonly Snapshot[]
  readonly targets: Targets
  readonly timeMs: number
  readonly startedMs: number
  readonly compression: Compression
  readonly progress: BackupProgress
  readonly selection: Awaited<ReturnType<typeof backupSelection>>
}

async function run(writer: Writer, options: BackupCommandOptions, { snapshots, targets, timeMs, startedMs, compression, progress, selection }: Run): Promise<BackupResult> {
  const { reader: { repository, index, sync, log }, access, signal } = writer
  const host = options.host || process.env.RESTIC_HOST || hostname()
  const tags = (options.tag ?? []).flatMap(parseTagList).filter(tag => tag !== '')
  const parent = parentOf(options, snapshots, { host, tags, paths: targets.paths }, timeMs, targets.fromStream)
  if (parent !== null) progress.say(`comparing with snapshot ${parent.id.slice(0, 8)}`)
  const trees = new TreeLoader({ backend: repository.backend, keys: repository.keys, index, native, refresh: async () => (await sync.refresh()).changed, log, signal })
  const rows = new RowsStore(index, log, ROWS_BYTES)
  const dead = new DeadBuffers(COLLECT_BYTES)
  try {
    const result = await backup(targets.tree, {
      access, index, polynomial: repository.config.chunkerPolynomial, compression, verify: options.extraVerify, dryRun: options.dryRun, parent,
      skipIfUnchanged: options.skipIfUnchanged, timeMs, startedMs, hostname: host, tags, paths: targets.paths, excludes: selection.excludes,
      programVersion: `daybook ${version()}`, selection: selection.selection, signal,
      matchFlags: (options.ignoreInode ? MatchFlag.ignoreInode | MatchFlag.ignoreCtime : 0) | (options.ignoreCtime ? MatchFlag.ignoreCtime : 0),
      parentRows: async tree => trees.peek(tree) ?? await trees.load(tree).catch(error => {
        log.warn(`a directory of the parent snapshot cannot be read; its files are read anew`, { error })
        return null
      }),
      onError: (path, error) => progress.failed(error, path),
      onExcluded: path => progress.excluded(path),
      onTree: (id, bytes) => {
        if (options.dryRun) return
        rows.put(idKey(id), bytes)
        dead.made(bytes.length)
      },
      onStart: stats => progress.start(stats),
    })
    await rows.drained()
    return result
  } finally {
    await trees.close()
  }
}

/** What the repository has, begun beside the lock. Its failure is told to who waits for it. */
function syncWell({ reader: { sync } }: Writer): Promise<readonly Snapshot[]> {
  const synced = sync.refresh().then(({ snapshots }) => snapshots)
  synced.catch(() => {})
  return synced
}

/** The snapshot to compare with. @throws DaybookError ERR_USAGE: --parent names none */
function parentOf(options: BackupCommandOptions, snapshots: readonly Snapshot[], { host, tags, paths }: { host: string, tags: string[], paths: readonly string[] }, timeMs: number, fromStream: boolean): Snapshot | null {
  if (options.force || fromStream) return null
  if (options.parent !== undefined) return selectSnapshots(snapshots, { hosts: [], tags: [], paths: [], snapshots: [options.parent] })[0]
  const by = options.groupBy.split(',').map(word => word.trim()).filter(word => word !== '')
  const unknown = by.find(word => !['host', 'hosts', 'path', 'paths', 'tag', 'tags'].includes(word))
  if (unknown !== undefined) throw new DaybookError('ERR_USAGE', `--group-by ${unknown}: not one`, 'host, paths, tags, with commas between')
  const has = (word: string) => by.some(other => other.startsWith(word))
  return findParent(snapshots, { hostname: has('host') ? host : null, paths: has('path') ? paths : null, tags: has('tag') ? tags : null }, timeMs)
}

/** Why it was stopped, where that was not a signal. */
function lostLock({ signal }: Writer, error: unknown): unknown {
  return signal.reason instanceof DaybookError ? signal.reason : error
}
