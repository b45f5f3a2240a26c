import type { Snapshot } from '../format/snapshot.js'

/** By what snapshots belong together: a backup is compared with the last one of its kind. */
export interface ParentGroup {
  /** null: of any host */
  readonly hostname: string | null
  /** absolute; null: of any paths */
  readonly paths: readonly string[] | null
  /** null: with any tags */
  readonly tags: readonly string[] | null
}

/** The newest snapshot of the group that is not newer than the backup that is being made, as restic chooses it. */
export function findParent(snapshots: readonly Snapshot[], { hostname, paths, tags }: ParentGroup, timeMs: number): Snapshot | null {
  let newest: Snapshot | null = null
  for (const snapshot of snapshots) {
    const belongs = snapshot.timeMs <= timeMs && (hostname === null || snapshot.hostname === hostname) && (paths === null || paths.every(path => snapshot.paths.includes(path)))
      && (tags === null || tags.every(tag => snapshot.tags.includes(tag)))
    if (belongs && (newest === null || snapshot.timeMs > newest.timeMs || snapshot.timeMs === newest.timeMs && snapshot.timeNs >= newest.timeNs)) newest = snapshot
  }
  return newest
}
