import { hostFilter, parseTagList, pathFilter, type SnapshotFilter } from '../repository/filter.js'
import type { FilterOptions } from './global-options.js'

/** --host, --tag, --path and named snapshots as the repository's filter takes them. */
export function snapshotFilter({ host, tag = [], path = [] }: FilterOptions, snapshots: readonly string[] = []): SnapshotFilter {
  return { hosts: hostFilter(host, process.env), tags: tag.map(parseTagList), paths: pathFilter(path), snapshots }
}
