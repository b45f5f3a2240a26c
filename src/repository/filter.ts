import { isAbsolute, normalize, resolve } from 'node:path'
import { DaybookError } from '../errors.js'
import type { Snapshot } from '../format/snapshot.js'

/** Which snapshots are meant, as restic's --host, --tag, --path mean it; ids as restic's arguments. */
export interface SnapshotFilter {
  /** any of these; [] is all */
  readonly hosts: readonly string[]
  /** any of these lists, of each list every tag ('' is a snapshot without tags); [] is all */
  readonly tags: readonly (readonly string[])[]
  /** every one of these; [] is all */
  readonly paths: readonly string[]
  /** ids, beginnings of ids, or 'latest'; [] is all */
  readonly snapshots: readonly string[]
}

export interface FilteredSnapshots<T> {
  /** in the order given */
  readonly snapshots: T[]
  /** of filter.snapshots: those that name nothing (forgotten, or mistyped), and beginnings that several ids share */
  readonly missing: string[]
  readonly ambiguous: string[]
}

type Filterable = Pick<Snapshot, 'id' | 'timeMs' | 'timeNs' | 'hostname' | 'tags' | 'paths'>

/** --tag a,b: all of them. White space around a tag is dropped. */
export function parseTagList(text: string): string[] {
  return text.split(',').map(tag => tag.trim())
}

/** --host as given; without it $RESTIC_HOST; a single empty one means all hosts. */
export function hostFilter(hosts: readonly string[] | undefined, env: Readonly<Record<string, string | undefined>> = {}): string[] {
  const chosen = hosts ?? (env.RESTIC_HOST ? [env.RESTIC_HOST] : [])
  return chosen.length === 1 && chosen[0] === '' ? [] : [...chosen]
}

/** --path as given, made absolute: without '.', '..' and a slash at the end, as snapshots hold them. */
export function pathFilter(paths: readonly string[]): string[] {
  return paths.map(path => {
    const clean = normalize(isAbsolute(path) ? path : resolve(path))
    return clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean
  })
}

export function matches(snapshot: Filterable, { hosts, tags, paths }: Omit<SnapshotFilter, 'snapshots'>): boolean {
  return (hosts.length === 0 || hosts.includes(snapshot.hostname))
    && (tags.length === 0 || tags.some(list => hasTags(snapshot, list)))
    && paths.every(path => snapshot.paths.includes(path))
}

/** Every tag of the list? An empty one asks for a snapshot without tags; with restic the rest of its list has no say then. */
export function hasTags({ tags }: Pick<Snapshot, 'tags'>, list: readonly string[]): boolean {
  for (const tag of list) {
    if (tag === '' && tags.length === 0) return true
    if (!tags.includes(tag)) return false
  }
  return true
}

/**
 * Snapshots that a filter means. Ids named explicitly are meant whatever the other filters say, as with restic; those narrow
 * `latest` down, or everything where no id is named. Nothing is thrown here: what is named may be forgotten while mounted.
 */
export function filterSnapshots<T extends Filterable>(all: readonly T[], filter: SnapshotFilter): FilteredSnapshots<T> {
  if (filter.snapshots.length === 0) return { snapshots: all.filter(snapshot => matches(snapshot, filter)), missing: [], ambiguous: [] }
  const chosen = new Set<T>()
  const missing: string[] = []
  const ambiguous: string[] = []
  for (const name of filter.snapshots) {
    const found = name === 'latest' ? latest(all, filter) : all.filter(({ id }) => name !== '' && id.startsWith(name))
    if (found.length === 0) missing.push(name)
    else if (found.length > 1) ambiguous.push(name)
    else chosen.add(found[0])
  }
  return { snapshots: all.filter(snapshot => chosen.has(snapshot)), missing, ambiguous }
}

/** For commands: exactly what was named, or a clear error. @throws DaybookError ERR_USAGE */
export function selectSnapshots<T extends Filterable>(all: readonly T[], filter: SnapshotFilter): T[] {
  const { snapshots, missing, ambiguous } = filterSnapshots(all, filter)
  if (missing.includes('latest')) throw new DaybookError('ERR_USAGE', 'no snapshot matches', 'see which there are with: daybook snapshots')
  if (missing.length > 0) throw new DaybookError('ERR_USAGE', `no snapshot ${missing.join(', ')}`, 'see which there are with: daybook snapshots')
  if (ambiguous.length > 0) throw new DaybookError('ERR_USAGE', `several snapshots begin with ${ambiguous.join(', ')}`, 'give more digits of the id')
  return snapshots
}

function latest<T extends Filterable>(all: readonly T[], filter: SnapshotFilter): T[] {
  let newest: T | null = null
  for (const snapshot of all) {
    if (!matches(snapshot, filter)) continue
    if (!newest || snapshot.timeMs > newest.timeMs || snapshot.timeMs === newest.timeMs && snapshot.timeNs >= newest.timeNs) newest = snapshot
  }
  return newest ? [newest] : []
}
