import type { SnapshotSelection } from './options.js'

/** What the local index files the names of days under: a mount with other filters may call the same snapshot otherwise. */
export function viewOf({ hosts, tags, paths, snapshots }: SnapshotSelection, subtree: string | null = null): string {
  return JSON.stringify([hosts, tags, paths, snapshots, subtree])
}
