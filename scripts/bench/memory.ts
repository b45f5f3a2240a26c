import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { readManifest } from './bench-repo.js'
import { makeFolders } from './folders.js'
import { daybookMounter, Mounted, resticMounter, type Mounter } from './mounted.js'
import { figure, table } from './table.js'
import { dropCaches, StepError, timed } from './timed.js'

const HELP = `usage: scripts/bench/memory [options]

Memory of the mount process while find walks 1,000,000 files in 20,000 directories (scripts/bench/make-repo --million).

  --systems NAMES    comma-separated: restic, daybook (default: both)
  --passes N         so many finds one after the other in the same mount (default: 2)
  --dir DIR          where the repository is (default: $DAYBOOK_BENCH_DIR, else /var/tmp/daybook-bench)
  --scale N          the repository made with this --scale (default: 1)
  --restic PATH      default: $RESTIC, else restic
  --daybook PATH     default: bin/daybook of this tree
`
const PROJECT = join(dirname(fileURLToPath(import.meta.url)), '../../..')
const LIMIT_SECONDS = 900
const MEMORY_BAR_MB = 150

const { values } = parseArgs({
  options: {
    systems: { type: 'string', default: 'restic,daybook' }, passes: { type: 'string', default: '2' }, dir: { type: 'string' }, scale: { type: 'string', default: '1' },
    restic: { type: 'string' }, daybook: { type: 'string' }, help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}

const base = values.dir ?? process.env.DAYBOOK_BENCH_DIR ?? '/var/tmp/daybook-bench'
const folder = join(base, Number(values.scale) === 1 ? 'large' : `large-${Number(values.scale)}`)
const manifest = readManifest(folder)
if (manifest === null) {
  console.error(`${folder} is not there: run scripts/bench/make-repo --million first`)
  process.exit(1)
}
const mounters: Record<string, Mounter> = {
  restic: resticMounter(values.restic ?? process.env.RESTIC ?? 'restic'), daybook: daybookMounter(values.daybook ?? join(PROJECT, 'bin/daybook')),
}

const { caches, mountpoints } = makeFolders(base)

const rows: string[][] = []
let reached = true
for (const system of values.systems.split(',')) {
  const cacheDir = join(caches, system)
  mkdirSync(cacheDir)
  dropCaches()
  const mounted = await Mounted.start(mounters[system], manifest, mountpoints, cacheDir, 120)
  try {
    for (let pass = 1; pass <= Number(values.passes); pass++) {
      process.stderr.write(`${system}: find, pass ${pass} ...\n`)
      const { seconds, output } = await timed('find "$1/" -type f | wc -l', [mounted.latest], LIMIT_SECONDS)
      const { residentMB, peakMB } = mounted.memory()
      // Only a walk that has seen every file says anything about memory.
      if (Number(output) !== manifest.files) throw new StepError(`find saw ${output.trim()} of ${manifest.files} files`)
      const fits = peakMB < MEMORY_BAR_MB
      if (system === 'daybook') reached &&= fits
      rows.push([`${system}, pass ${pass}`, figure(seconds), figure(residentMB), figure(peakMB), system !== 'daybook' ? '' : fits ? 'yes' : 'NO'])
    }
  } catch (error) {
    if (!(error instanceof StepError)) throw error
    if (system === 'daybook') reached = false
    rows.push([system, error.message, '', '', 'NO'])
  } finally {
    await mounted.stop()
  }
}
console.log(`\n${manifest.files.toLocaleString('en-US')} files, ${manifest.snapshots} snapshots; to be under ${MEMORY_BAR_MB} MB\n`)
console.log(table(['find', 'seconds', 'resident MB', 'peak MB', 'reached'], rows))
process.exitCode = reached ? 0 : 1
