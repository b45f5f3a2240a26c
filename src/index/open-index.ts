import type { Logger } from '../util/log.js'
import type { LocalIndex } from './index.js'

export { defaultCacheDir } from './location.js'

export interface OpenIndexOptions {
  cacheDir: string
  /** 64 hex digits, from the repository's config */
  repositoryId: string
  log: Logger
}

/** Open or create the index of a repository. Never rejects for the state of the cache directory: see location.ts. */
export async function openIndex(_options: OpenIndexOptions): Promise<LocalIndex> {
  throw new Error('being written')
}
