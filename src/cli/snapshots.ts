import { EXIT } from './exit-codes.js'
import { snapshotFilter } from './filters.js'
import type { FilterOptions, GlobalOptions } from './global-options.js'
import { namedSnapshots, openReader, type NamedSnapshot } from './open-reader.js'
import { Output } from './output.js'
import { printable } from './printable.js'
import { snapshotJson } from './snapshot-json.js'
import { formatTable } from './table.js'
import { localTime } from './times.js'

export async function snapshotsCommand(options: GlobalOptions & FilterOptions, ids: string[]): Promise<number> {
  const filter = snapshotFilter(options, ids)
  const reader = await openReader(options)
  try {
    const snapshots = await namedSnapshots(reader, filter)
    const output = new Output()
    if (options.json) output.write(JSON.stringify(snapshots.map(asJson)) + '\n')
    else {
      output.write(formatTable(['Day', 'Time', 'Host', 'Tags', 'ID', 'Paths'], snapshots.map(asRow)))
      if (!options.quiet) output.write(`${snapshots.length} snapshot${snapshots.length === 1 ? '' : 's'}\n`)
    }
    output.flush()
    return EXIT.ok
  } finally { await reader.close() }
}

function asRow({ snapshot, day }: NamedSnapshot): string[] {
  const { id, timeMs, hostname, tags, paths } = snapshot
  return [day, localTime(timeMs), hostname, tags.join(','), id.slice(0, 8), paths.join(', ')].map(printable)
}

/** `day` is ours. */
function asJson({ snapshot, day }: NamedSnapshot): object { return { ...snapshotJson(snapshot), day } }
