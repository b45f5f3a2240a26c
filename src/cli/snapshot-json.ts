import type { Snapshot } from '../format/snapshot.js'

/** Fields named as restic names them, and left out where it would. */
export function snapshotJson({ id, time, tree, hostname, username, tags, paths, parent, original, programVersion, summary }: Snapshot): object {
  return {
    time, parent: parent ?? undefined, tree: tree.toString('hex'), paths, hostname, username, tags: tags.length > 0 ? tags : undefined,
    original: original ?? undefined, program_version: programVersion || undefined, summary: summary ?? undefined, id, short_id: id.slice(0, 8),
  }
}
