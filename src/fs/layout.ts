import { assignDayNames, byTime, resticTime } from './day-names.js'
import type { SnapshotEntry } from './sources.js'

/** What a name of the layout stands for. */
export type LayoutEntry =
  | { readonly kind: 'directory', readonly entries: LayoutDirectory }
  | { readonly kind: 'snapshot', readonly snapshot: SnapshotEntry }
  | { readonly kind: 'link', readonly target: string }
export type LayoutDirectory = Map<string, LayoutEntry>

/** How the names of days came out, to be kept for next time (see assignDayNames), by host. */
export interface DaysLayout { readonly root: LayoutDirectory, readonly names: Map<string, string> }

/**
 * One directory per day, `latest` beside them; with several hosts, all of that below the host's name. `flatHost`: the host whose days stay at the top,
 * as they were when the mount began, when a second host appears (nothing moves under a running copy).
 */
export function daysLayout(snapshots: readonly SnapshotEntry[], previous: ReadonlyMap<string, string>, flatHost: string | null): DaysLayout {
  const names = new Map<string, string>()
  const hosts = groupBy(snapshots, snapshot => [snapshot.hostname])
  const root: LayoutDirectory = new Map()
  for (const [host, group] of hosts) {
    const directory: LayoutDirectory = new Map()
    const days = assignDayNames(group, previous)
    for (const snapshot of [...group].sort(byTime)) {
      const name = days.get(snapshot.id)!
      names.set(snapshot.id, name)
      directory.set(name, { kind: 'snapshot', snapshot })
    }
    linkLatest(directory, group, snapshot => days.get(snapshot.id)!)
    if (hosts.size === 1 || host === flatHost) for (const [name, entry] of directory) root.set(name, entry)
    else root.set(freeName(root, safeName(host)), { kind: 'directory', entries: directory })
  }
  return { root, names }
}

/**
 * Names of days for a new list of snapshots: `restic tag` and `restic rewrite` write a snapshot anew, under another id but with its time and host, and
 * then forget the old one. It is the same day to whoever looks at it.
 */
export function inheritNames(names: ReadonlyMap<string, string>, before: readonly SnapshotEntry[], now: readonly SnapshotEntry[]): Map<string, string> {
  const inherited = new Map(names)
  const identity = ({ timeMs, timeNs, hostname }: SnapshotEntry) => `${timeMs} ${timeNs} ${hostname}`
  const present = new Set(now.map(({ id }) => id))
  const gone = new Map(before.filter(({ id }) => !present.has(id)).map(snapshot => [identity(snapshot), snapshot.id]))
  for (const snapshot of now) {
    const name = names.get(gone.get(identity(snapshot)) ?? '')
    if (name !== undefined && !names.has(snapshot.id)) inherited.set(snapshot.id, name)
  }
  return inherited
}

/** `ids/ snapshots/ hosts/<host>/ tags/<tag>/` with RFC 3339 times and `latest`, as `restic mount` shows them. */
export function resticLayout(snapshots: readonly SnapshotEntry[]): LayoutDirectory {
  const ids: LayoutDirectory = new Map()
  for (const snapshot of snapshots) ids.set(freeName(ids, snapshot.id.slice(0, 8)), { kind: 'snapshot', snapshot })
  const grouped = (keys: (snapshot: SnapshotEntry) => readonly string[]): LayoutEntry => {
    const entries: LayoutDirectory = new Map()
    for (const [key, group] of groupBy(snapshots, keys)) entries.set(freeName(entries, safeName(key)), byTimeDirectory(group))
    return { kind: 'directory', entries }
  }
  return new Map<string, LayoutEntry>([
    ['ids', { kind: 'directory', entries: ids }],
    ['snapshots', byTimeDirectory(snapshots)],
    ['hosts', grouped(snapshot => [snapshot.hostname])],
    ['tags', grouped(snapshot => snapshot.tags)],
  ])
}

function byTimeDirectory(snapshots: readonly SnapshotEntry[]): LayoutEntry {
  const entries: LayoutDirectory = new Map()
  const names = new Map<string, string>()
  for (const snapshot of [...snapshots].sort(byTime)) {
    const name = freeName(entries, resticTime(snapshot.timeMs))
    entries.set(name, { kind: 'snapshot', snapshot })
    names.set(snapshot.id, name)
  }
  linkLatest(entries, snapshots, snapshot => names.get(snapshot.id)!)
  return { kind: 'directory', entries }
}

function linkLatest(directory: LayoutDirectory, snapshots: readonly SnapshotEntry[], nameOf: (snapshot: SnapshotEntry) => string): void {
  if (snapshots.length === 0) return
  const newest = snapshots.reduce((a, b) => byTime(a, b) > 0 ? a : b)
  directory.set('latest', { kind: 'link', target: nameOf(newest) })
}

/** Hosts and tags are free text: what a file name cannot hold becomes '_', so that one odd tag never makes its directory unreadable. */
export function safeName(text: string): string {
  let name = text.replace(/[/\0]/g, '_')
  if (name === '' || name === '.' || name === '..') name = '_'
  while (Buffer.byteLength(name) > 240) name = name.slice(0, -1)
  return name
}

function freeName(directory: LayoutDirectory, wanted: string): string {
  let name = wanted
  for (let n = 1; directory.has(name); n++) name = `${wanted}-${n}`
  return name
}

function groupBy(snapshots: readonly SnapshotEntry[], keys: (snapshot: SnapshotEntry) => readonly string[]): Map<string, SnapshotEntry[]> {
  const groups = new Map<string, SnapshotEntry[]>()
  for (const snapshot of snapshots) {
    for (const key of new Set(keys(snapshot))) {
      const group = groups.get(key)
      if (group === undefined) groups.set(key, [snapshot])
      else group.push(snapshot)
    }
  }
  return new Map([...groups].sort(([a], [b]) => a < b ? -1 : 1))
}
