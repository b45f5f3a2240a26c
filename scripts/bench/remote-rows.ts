import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Manifest } from './bench-repo.js'
import { ROWS, type Bars, type Row } from './rows.js'
import { sampleFiles } from './sample.js'
import { timed } from './timed.js'

/** What a row has to reach over a far link; warm: with a warm disk cache. */
const BARS: Record<string, Bars> = {
  start: { cold: 1, warm: 1.4 }, find: { cold: 3, warm: null }, cp: { cold: 40, warm: 60 }, tar: { cold: 60, warm: 100 }, dd: { cold: 7, warm: 12 },
  random1: { cold: 1, warm: 20 }, random16: { cold: 2, warm: 20 },
}

export interface RemoteRow extends Omit<Row, 'run'> {
  /** With `sample`: of so many files only. @returns the figure for all of them */
  run(root: string, scratch: string, manifest: Manifest, sample: number | null): Promise<number>
  /** may be sampled: one request per file takes minutes */
  readonly sampled: boolean
}

const COMMANDS: Record<string, string> = {
  cp: 'cd "$1" && xargs -a "$2" -d "\\n" cp --parents -t "$3"',
  tar: 'tar -C "$1" -cf - -T "$2" | cat > /dev/null',
}

export const REMOTE_ROWS: readonly RemoteRow[] = ROWS.filter(({ key }) => key in BARS).map(row => ({
  ...row, bars: BARS[row.key], coldOnly: false, sampled: row.key in COMMANDS,
  run: async (root, scratch, manifest, sample) => {
    const command = COMMANDS[row.key]
    if (sample === null || command === undefined) return row.run(root, scratch, manifest)
    const { paths, share } = sampleFiles(manifest, row.key === 'cp' ? manifest.smallDirectory! : '.', sample)
    const list = join(scratch, 'list')
    writeFileSync(list, paths.map(path => path + '\n').join(''))
    const { seconds } = await timed(command, [root, list, scratch], row.limitSeconds)
    return seconds / share
  },
}))
