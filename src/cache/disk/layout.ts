import { join } from 'node:path'

/*
 * Where things lie below <cache directory>/remote-1/, beside the indexes:
 *
 *   packs/data/<xx>/<pack id>       bytes of a pack, encrypted as they are, at their own offsets; what was not read is a hole
 *   packs/data/<xx>/<pack id>.map   which stretches those are (pack-file.ts)
 *   packs/trees/<xx>/...            the same for packs of trees, which are kept longest
 *   files/<xx>/<id>                 key, snapshot and index files, encrypted as they are
 *   known/<location>/...            what was last heard from a location: its config and lists of files
 *   usage, evicting                 how much all of it is (quota.ts)
 *
 * Packs and files are named by the SHA-256 of their content, so repositories need no folders of their own: a copy of a repository shares them.
 */

/** Of what is written now: another layout gets another number. */
const FOLDER = 'remote-1'

export const MAP = '.map'
export const TEMPORARY = '.tmp-'

export const CLASSES = ['data', 'trees', 'files'] as const
/** The first goes first. */
export type Class = typeof CLASSES[number]

export class Layout {
  readonly root: string
  constructor(cacheDir: string) { this.root = join(cacheDir, FOLDER) }

  folder(kind: Class): string { return kind === 'files' ? join(this.root, 'files') : join(this.root, 'packs', kind) }
  pack(kind: 'data' | 'trees', name: string): string { return join(this.folder(kind), name.slice(0, 2), name) }
  file(name: string): string { return join(this.folder('files'), name.slice(0, 2), name) }
  /** @param location hex */
  known(location: string, what: string): string { return join(this.root, 'known', location, what) }
  get usage(): string { return join(this.root, 'usage') }
  get lock(): string { return join(this.root, 'evicting') }
}
