import type { ReadOptions } from '../backend/backend.js'
import { CorruptError, NotFoundError } from '../errors.js'
import { compareSnapshots } from '../format/snapshot.js'
import type { Snapshot } from '../format/snapshot.js'
import { forEachLimited } from '../util/concurrency.js'
import type { Repository } from './repository.js'

/** All snapshots of a repository, oldest first, without a local index. Damaged ones are reported and left out. */
export async function loadSnapshots(repository: Repository,
  { signal, onDamaged = () => {} }: ReadOptions & { onDamaged?: (error: CorruptError) => void } = {}): Promise<Snapshot[]> {
  const files = await repository.prefetch?.takeList('snapshots') ?? await repository.list('snapshots', { signal })
  const snapshots: Snapshot[] = []
  await forEachLimited(files, SNAPSHOTS_AT_ONCE, async ({ name }) => {
    try {
      snapshots.push(await repository.loadSnapshot(name, { signal }))
    } catch (error) {
      if (error instanceof CorruptError) onDamaged(error)
      // forgotten since the list was made
      else if (!(error instanceof NotFoundError)) throw error
    }
  })
  return snapshots.sort(compareSnapshots)
}

/** They are small: what counts is the way there and back. */
export const SNAPSHOTS_AT_ONCE = 16
