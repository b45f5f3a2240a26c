import { DaybookError } from '../errors.js'
import type { Snapshot } from '../format/snapshot.js'
import { isMark } from './marks.js'

/** By what snapshots are divided into groups, to each of which a policy is applied by itself. */
export interface GroupBy { readonly host: boolean, readonly paths: boolean, readonly tags: boolean }

/** What the snapshots of a group have in common: '' and null where that has no say (and for lists that are empty), as restic has it in its JSON. */
export interface GroupKey { readonly host: string, readonly paths: readonly string[] | null, readonly tags: readonly string[] | null }

export interface Group<T> extends GroupKey { readonly snapshots: T[] }

const WORDS: Record<string, keyof GroupBy> = { host: 'host', hosts: 'host', path: 'paths', paths: 'paths', tag: 'tags', tags: 'tags' }

/** "host,paths"; '' is one group of all. @throws DaybookError ERR_USAGE */
export function parseGroupBy(text: string): GroupBy {
  const by = { host: false, paths: false, tags: false }
  for (const word of text.split(',').map(word => word.trim()).filter(word => word !== '')) {
    if (!Object.hasOwn(WORDS, word)) throw new DaybookError('ERR_USAGE', `--group-by ${word}: not one`, 'host, paths, tags, with commas between')
    by[WORDS[word]] = true
  }
  return by
}

/** Groups in order of their keys, so that two runs print the same; snapshots in the order given. The order of tags and paths in a snapshot has no say, nor have marks. */
export function groupSnapshots<T extends Pick<Snapshot, 'hostname' | 'paths' | 'tags'>>(snapshots: readonly T[], by: GroupBy): Group<T>[] {
  const groups = new Map<string, Group<T>>()
  for (const snapshot of snapshots) {
    const tags = by.tags ? snapshot.tags.filter(tag => !isMark(tag)).sort() : []
    const paths = by.paths ? [...snapshot.paths].sort() : []
    const group = { host: by.host ? snapshot.hostname : '', paths: paths.length > 0 ? paths : null, tags: tags.length > 0 ? tags : null, snapshots: [] }
    const key = JSON.stringify([group.host, paths, tags])
    if (!groups.has(key)) groups.set(key, group)
    groups.get(key)!.snapshots.push(snapshot)
  }
  return [...groups].sort(([a], [b]) => a < b ? -1 : 1).map(([, group]) => group)
}

/** "host web1, paths /etc /home"; '' for the one group of all */
export function describeGroup({ host, paths, tags }: GroupKey): string {
  return [host && `host ${host}`, paths && `paths ${paths.join(' ')}`, tags && `tags ${tags.join(',')}`].filter(part => part).join(', ')
}
