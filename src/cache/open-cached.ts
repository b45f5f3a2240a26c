import type { ReadBackend } from '../backend/backend.js'
import type { Location } from '../backend/location.js'
import { openBackend } from '../backend/open-backend.js'
import type { BackendOptions } from '../backend/options.js'
import type { Logger } from '../util/log.js'

/** Plain values: they go to a mount process through a pipe. */
export interface DiskCacheSettings {
  /** bytes on disk, of all processes that use the folder; null: 5 % of the file system, at most 20 GB. 0: no packs are kept */
  readonly maxBytes: number | null
}

export interface OpenCachedOptions {
  /** the folder that also holds the indexes */
  readonly cacheDir: string
  /** null: nothing is kept */
  readonly diskCache: DiskCacheSettings | null
  readonly log: Logger
  /** see CachedBackendOptions */
  readonly startWithout?: boolean
}

/** Where a repository is. */
export interface Locations {
  readonly location: Location
  /** further ones, in order of preference */
  readonly replicas: readonly Location[]
  readonly backend: BackendOptions
}

/** A backend that may have been done without at the start. */
export interface MaybeAway extends ReadBackend {
  /** Called when a remote that was done without answers. */
  onBack?(listener: () => void): void
  /** Bytes of the disk cache, which others may share; null: not known. Never rejects. */
  diskUse?(): Promise<{ readonly usedBytes: number | null, readonly maxBytes: number | null }>
}

/**
 * The backend of a location, a remote with the disk cache in front of it. Nothing is read or made yet, and for a local repository nothing of this is loaded.
 * @throws DaybookError ERR_USAGE, ERR_UNSUPPORTED
 */
export async function openCached({ location, replicas, backend }: Locations, { cacheDir, diskCache, log, startWithout }: OpenCachedOptions): Promise<MaybeAway> {
  const inner = await openBackend(location, backend, log, replicas)
  if (location.scheme === 'local' || diskCache === null) return inner
  const [{ CachedBackend }, { DiskCache }] = await Promise.all([import('./cached-backend.js'), import('./disk/disk-cache.js')])
  return new CachedBackend(inner, { disk: new DiskCache({ cacheDir, maxBytes: diskCache.maxBytes, log }), log, startWithout })
}
