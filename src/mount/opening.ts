import { setMaxListeners } from 'node:events'
import { openCached, type MaybeAway } from '../cache/open-cached.js'
import { faultFields } from '../errors.js'
import { openRepository } from '../repository/open.js'
import { Prefetch } from '../repository/prefetch.js'
import type { Repository } from '../repository/repository.js'
import type { MountOptions } from './options.js'

/** A repository being opened for a mount. */
export interface Opening {
  /** ends it, and everything the mount does later */
  readonly abort: AbortController
  readonly backend: Promise<MaybeAway>
  /** rejects as openRepository does */
  readonly repository: Promise<Repository>
}

/**
 * Begin to open the repository: a process of its own for each mount is started often, deriving the key takes it half a second, and needs few modules.
 * So this is to be called before the others are loaded.
 */
export function beginOpening({ repository: access, cacheDir, diskCache, log }: Pick<MountOptions, 'repository' | 'cacheDir' | 'diskCache' | 'log'>): Opening {
  const abort = new AbortController()
  const { signal } = abort
  setMaxListeners(0, signal) // every request listens
  const backend = openCached(access, { cacheDir, diskCache, log, startWithout: true })
  const repository = (async () => {
    const prefetch = new Prefetch(await backend, { signal })
    const password = await access.password()
    return openRepository(await backend, password, { prefetch, keyHint: access.keyHint, signal, onDamaged: error => log.warn(error.message, faultFields(error)) }).finally(() => password.fill(0))
  })()
  // whoever starts the mount hears of it
  repository.catch(() => {})
  return { abort, backend, repository }
}
