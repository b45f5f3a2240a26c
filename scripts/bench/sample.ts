import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Manifest } from './bench-repo.js'

/** Files above it are left out of a sample: one of them would be all of it. */
const MAX_BYTES = 4 << 20

/** Every so-manieth small file below a folder of the newest day, in the order of the walk, and what share of the small files' number that is. */
export function sampleFiles({ source }: Manifest, folder: string, count: number): { paths: string[], share: number } {
  if (source === null) throw new Error('a sample needs the tree the repository was made of: make it again with scripts/bench/make-repo')
  const small = readdirSync(join(source, folder), { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name)).filter(path => statSync(path).size <= MAX_BYTES).map(path => path.slice(source.length + 1)).sort()
  const step = Math.max(1, Math.floor(small.length / count))
  const paths = small.filter((_, i) => i % step === 0).slice(0, count)
  return { paths, share: paths.length / small.length }
}
