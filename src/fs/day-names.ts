import type { SnapshotEntry } from './sources.js'

type Dated = Pick<SnapshotEntry, 'id' | 'timeMs'>

/**
 * Names of snapshots in the days layout, in the process's time zone: the first snapshot of a local day is YYYY-MM-DD, further ones are
 * YYYY-MM-DDTHH-MM-SS (no colons: scp and Windows clients trip over them), with the start of the id behind it where two share a second.
 * A name keeps its meaning while its snapshot exists: `previous` (snapshot id -> name) is honoured, also when an older snapshot of the same day appears later.
 * @returns snapshot id -> name
 */
export function assignDayNames(snapshots: readonly Dated[], previous: ReadonlyMap<string, string> = new Map()): Map<string, string> {
  const names = new Map<string, string>()
  const taken = new Set<string>()
  for (const { id } of snapshots) {
    const name = previous.get(id)
    if (name === undefined || taken.has(name)) continue
    names.set(id, name)
    taken.add(name)
  }
  for (const { id, timeMs } of [...snapshots].sort(byTime)) {
    if (names.has(id)) continue
    const day = localDay(timeMs)
    const second = `${day}T${localTime(timeMs)}`
    const name = [day, second, `${second}-${id.slice(0, 8)}`, `${second}-${id}`].find(candidate => !taken.has(candidate))!
    names.set(id, name)
    taken.add(name)
  }
  return names
}

/** oldest first; by id where the times agree, so that every process sees one order */
export function byTime(a: Dated, b: Dated): number { return a.timeMs - b.timeMs || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0) }

const two = (n: number) => String(n).padStart(2, '0')

function localDay(timeMs: number): string {
  const date = new Date(timeMs)
  return `${String(date.getFullYear()).padStart(4, '0')}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
}

function localTime(timeMs: number): string {
  const date = new Date(timeMs)
  return `${two(date.getHours())}-${two(date.getMinutes())}-${two(date.getSeconds())}`
}

/** As restic names them: RFC 3339 in seconds with the local offset. */
export function resticTime(timeMs: number): string {
  const offset = -new Date(timeMs).getTimezoneOffset()
  const zone = offset === 0 ? 'Z' : `${offset < 0 ? '-' : '+'}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`
  return `${localDay(timeMs)}T${localTime(timeMs).replaceAll('-', ':')}${zone}`
}
