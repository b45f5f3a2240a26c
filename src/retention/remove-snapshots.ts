import { NotFoundError } from '../errors.js'
import type { WriteAccess } from '../repository/save-unpacked.js'
import { throwIfAborted } from '../util/abort.js'
import { forEachLimited } from '../util/concurrency.js'

/** Remove the files of snapshots; one that is gone already is what was wanted. What fails is reported, and the others are removed all the same. @returns how many are gone */
export async function removeSnapshots({ backend }: WriteAccess, ids: readonly string[], signal: AbortSignal, onFailed: (id: string, error: Error) => void): Promise<number> {
  let removed = 0
  await forEachLimited(ids, backend.connections, async id => {
    throwIfAborted(signal)
    try {
      await backend.remove({ type: 'snapshots', name: id }, { signal })
      removed++
    } catch (error) {
      throwIfAborted(signal)
      if (error instanceof NotFoundError) removed++
      else onFailed(id, error as Error)
    }
  })
  return removed
}
