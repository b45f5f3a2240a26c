import type { DiskCacheSettings } from '../cache/open-cached.js'
import type { GlobalOptions } from './global-options.js'
import { parseSize } from './values.js'

/** What flags say about keeping what was read from remotes; null: not at all. @throws DaybookError ERR_USAGE */
export function diskCacheSettings({ cache, cacheSize }: GlobalOptions): DiskCacheSettings | null {
  const maxBytes = cacheSize === undefined ? null : parseSize('--cache-size', cacheSize)
  return cache === false ? null : { maxBytes }
}
