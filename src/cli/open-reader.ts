import { resolve } from 'node:path'
import { openCached } from '../cache/open-cached.js'
import type { Snapshot } from '../format/snapshot.js'
import { daysLayout } from '../fs/layout.js'
import { defaultCacheDir, openIndex } from '../index/open-index.js'
import type { LocalIndex } from '../index/index.js'
import { viewOf } from '../mount/view.js'
import { filterSnapshots, selectSnapshots, type SnapshotFilter } from '../repository/filter.js'
import { openRepository } from '../repository/open.js'
import { Prefetch } from '../repository/prefetch.js'
import type { Repository } from '../repository/repository.js'
import { IndexSync } from '../repository/sync-index.js'
import { createLogger, type Logger } from '../util/log.js'
import { diskCacheSettings } from './cache-options.js'
import type { GlobalOptions } from './global-options.js'
import { Progress } from './progress.js'
import { repositoryAccess, withTries } from './repository-access.js'

/** A repository opened for one command, with its local index. */
export interface Reader {
  readonly repository: Repository
  readonly index: LocalIndex
  readonly sync: IndexSync
  readonly log: Logger
  readonly progress: Progress
  close(): Promise<void>
}

/** @throws what openRepository throws */
export async function openReader(options: GlobalOptions): Promise<Reader> {
  const diskCache = diskCacheSettings(options)
  const cacheDir = resolve(options.cacheDir ?? defaultCacheDir(process.env, process.getuid!()))
  const { access, passwordTries } = await repositoryAccess(options)
  const log = createLogger({ level: options.verbose > 0 ? 'debug' : 'warn', json: options.json, write: line => { process.stderr.write(line) } })
  const progress = new Progress({ quiet: options.quiet || options.json })
  const repository = await withTries(passwordTries, async () => {
    const backend = await openCached(access, { cacheDir, diskCache, log })
    const prefetch = new Prefetch(backend)
    const password = await access.password()
    progress.update('opening the repository')
    return openRepository(backend, password, { prefetch, keyHint: access.keyHint, onDamaged: error => log.warn(error.message) })
      .catch(async error => {
        await backend.close()
        throw error
      })
      .finally(() => { password.fill(0); progress.done() })
  })
  const index = await openIndex({ cacheDir, repositoryId: repository.id, log })
  const sync = new IndexSync(repository, index, { log })
  return {
    repository, index, sync, log, progress,
    async close() {
      progress.done()
      sync.close()
      await index.close()
      await repository.close()
    },
  }
}

export interface NamedSnapshot {
  readonly snapshot: Snapshot
  /** where a mount with the same filters has it: 2026-11-20, or web1/2026-11-20 where there are several hosts */
  readonly day: string
}

/** The snapshots that a filter means, oldest first, with their names. @throws DaybookError ERR_USAGE: an id that names none, or several */
export async function namedSnapshots({ sync, index, progress }: Reader, filter: SnapshotFilter): Promise<NamedSnapshot[]> {
  progress.update('reading snapshots')
  const { snapshots: all } = await sync.syncSnapshots().finally(() => progress.done())
  const chosen = filter.snapshots.length > 0 ? selectSnapshots(all, filter) : filterSnapshots(all, filter).snapshots
  const days = new Map<string, string>()
  const { root } = daysLayout(chosen, index.dayNames(viewOf(filter)), null)
  for (const [name, entry] of root) {
    if (entry.kind === 'snapshot') days.set(entry.snapshot.id, name)
    if (entry.kind !== 'directory') continue
    for (const [day, inner] of entry.entries) if (inner.kind === 'snapshot') days.set(inner.snapshot.id, `${name}/${day}`)
  }
  return chosen.map(snapshot => ({ snapshot, day: days.get(snapshot.id)! }))
}
