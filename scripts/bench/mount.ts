import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { cpus, loadavg } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { readManifest, type Manifest } from './bench-repo.js'
import { makeFolders } from './folders.js'
import { inTurn } from './in-turn.js'
import { daybookMounter, Mounted, resticMounter, type Memory, type Mounter } from './mounted.js'
import { ROWS, type Row } from './rows.js'
import { figure, table } from './table.js'
import { dropCaches, median, timed } from './timed.js'

const HELP = `usage: scripts/bench/mount [options]

Times everyday work on the newest day of a repository: restic mount, daybook, and the same files on the local file system.
Make the repository first: scripts/bench/make-repo (and --20x for the row start20x).

  --only ROWS        comma-separated: ${ROWS.map(row => row.key).join(', ')}, start20x (default: all)
  --systems NAMES    comma-separated: restic, daybook, local (default: all)
  --runs N           medians of so many runs (default: 3)
  --dir DIR          where the repositories are (default: $DAYBOOK_BENCH_DIR, else /var/tmp/daybook-bench)
  --scale N          the repository made with this --scale (default: 1)
  --restic PATH      default: $RESTIC, else restic
  --daybook PATH     default: bin/daybook of this tree
  --json FILE        write all figures there, too

Cold: page cache dropped, new process, empty cache directories. Warm: the same command once more in the same mount;
for "start": a new process that finds its cache directory and the page cache filled.
`

const PROJECT = join(dirname(fileURLToPath(import.meta.url)), '../../..')
const MEMORY_BAR_MB = 150

const { values } = parseArgs({
  options: {
    only: { type: 'string' }, systems: { type: 'string', default: 'restic,daybook,local' }, runs: { type: 'string', default: '3' }, dir: { type: 'string' },
    scale: { type: 'string', default: '1' }, restic: { type: 'string' }, daybook: { type: 'string' }, json: { type: 'string' }, help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}

type Temperature = 'cold' | 'warm'
interface Figures {
  readonly cold: number[]
  readonly warm: number[]
  readonly memory: Memory[]
  problem: string | null
}

const base = values.dir ?? process.env.DAYBOOK_BENCH_DIR ?? '/var/tmp/daybook-bench'
const suffix = Number(values.scale) === 1 ? '' : `-${Number(values.scale)}`
const restic = values.restic ?? process.env.RESTIC ?? 'restic'
const mounters: Record<string, Mounter> = { restic: resticMounter(restic), daybook: daybookMounter(values.daybook ?? join(PROJECT, 'bin/daybook')) }
const systems = values.systems.split(',')
const { scratch, caches, mountpoints } = makeFolders(base)

function manifestOf(name: string): Manifest | null {
  const manifest = readManifest(join(base, name + suffix))
  if (manifest === null) console.error(`${join(base, name + suffix)} is not there: run scripts/bench/make-repo${name === 'large' ? ' --20x' : ''} first`)
  return manifest
}

/** One cold and one warm figure of a row. */
async function measureMount(row: Row, mounter: Mounter, manifest: Manifest, figures: Figures): Promise<void> {
  const cacheDir = mkdtempSync(join(caches, `${mounter.name}-`))
  const limit = Math.min(row.limitSeconds, 60)
  const once = async (temperature: Temperature, mounted: Mounted) => {
    const target = join(scratch, 'target')
    mkdirSync(target)
    try {
      const value = await row.run(mounted.latest, target, manifest)
      figures[temperature].push(row.isStart ? Number(process.hrtime.bigint() - mounted.startedAt) / 1e9 : value)
    } finally {
      figures.memory.push(mounted.memory())
      rmSync(target, { recursive: true, force: true })
    }
  }
  let mounted: Mounted | null = null
  try {
    dropCaches()
    mounted = await Mounted.start(mounter, manifest, mountpoints, cacheDir, limit)
    if (row.isStart) {
      await once('cold', mounted)
      await mounted.stop()
      mounted = await Mounted.start(mounter, manifest, mountpoints, cacheDir, limit)
    } else {
      dropCaches()
      await once('cold', mounted)
    }
    if (!row.coldOnly) await once('warm', mounted)
  } finally {
    await mounted?.stop()
    rmSync(cacheDir, { recursive: true, force: true })
  }
}

async function measureLocal(row: Row, manifest: Manifest, figures: Figures): Promise<void> {
  if (row.isStart || manifest.source === null) return
  dropCaches()
  for (const temperature of row.coldOnly ? ['cold'] as const : ['cold', 'warm'] as const) {
    const target = join(scratch, 'target')
    mkdirSync(target)
    try {
      figures[temperature].push(await row.run(manifest.source, target, manifest))
    } finally {
      rmSync(target, { recursive: true, force: true })
    }
  }
}

async function measure(row: Row, manifest: Manifest): Promise<Map<string, Figures>> {
  const results = new Map(systems.map(system => [system, { cold: [], warm: [], memory: [], problem: null } as Figures]))
  return inTurn(row.key, Number(values.runs), results, (system, figures) => system === 'local' ? measureLocal(row, manifest, figures) : measureMount(row, mounters[system], manifest, figures))
}

function cell(figures: Figures | undefined, temperature: Temperature): string {
  if (figures === undefined) return ''
  if (figures.problem !== null) return 'failed'
  return figures[temperature].length === 0 ? '' : figure(median(figures[temperature]))
}

/** Our speed divided by restic's, and whether that reaches the bar. */
function ratio(row: Row, results: Map<string, Figures>, temperature: Temperature): { text: string, reached: boolean | null } {
  const bar = row.bars[temperature]
  if (bar === null) return { text: '', reached: null }
  const [ours, theirs] = ['daybook', 'restic'].map(name => results.get(name)?.[temperature] ?? [])
  if (results.get('daybook')?.problem) return { text: `failed (${bar}x)`, reached: false }
  if (ours.length === 0 || theirs.length === 0) return { text: '', reached: null }
  const value = row.unit === 's' ? median(theirs) / median(ours) : median(ours) / median(theirs)
  return { text: `${value.toFixed(1)}x (${bar}x) ${value >= bar ? 'yes' : 'NO'}`, reached: value >= bar }
}

const start = ROWS.find(row => row.isStart)!
const jobs: [Row, string][] = [...ROWS.map(row => [row, 'standard'] as [Row, string]), [{ ...start, key: 'start20x', title: 'start to first ls, 20x as large' }, 'large']]
const wanted = values.only?.split(',')
for (const key of wanted ?? []) if (!jobs.some(([row]) => row.key === key)) throw new Error(`no row ${key}`)

const machine = `${cpus().length} cores, ${cpus()[0]?.model ?? 'unknown processor'}, Linux ${readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()}, Node ${process.version}`
const version = spawnSync(restic, ['version'], { encoding: 'utf8' }).stdout?.split(' ').slice(0, 2).join(' ') ?? 'no restic'
if (!dropCaches()) console.error('warning: not allowed to drop the page cache, so "cold" is only a new process with an empty cache directory')
if (loadavg()[0] > 1) console.error(`warning: this machine is busy (load ${loadavg()[0].toFixed(1)}), so the figures mean little`)
if (systems.includes('daybook')) await timed('"$1" --version', [values.daybook ?? join(PROJECT, 'bin/daybook')], 30)

const speed: string[][] = []
const memory: string[][] = []
const record: unknown[] = []
let missed = 0
for (const [row, repository] of jobs) {
  if (wanted !== undefined && !wanted.includes(row.key)) continue
  const manifest = manifestOf(repository)
  if (manifest === null) continue
  if (manifest.bigFile === null && !row.isStart) continue
  const results = await measure(row, manifest)
  const ratios = (['cold', 'warm'] as const).map(temperature => ratio(row, results, temperature))
  const peaks = ['restic', 'daybook'].map(name => Math.max(0, ...results.get(name)?.memory.map(({ peakMB }) => peakMB) ?? []))
  const fits = peaks[1] === 0 ? null : peaks[1] < MEMORY_BAR_MB
  missed += [...ratios.map(({ reached }) => reached), fits].filter(reached => reached === false).length
  speed.push([`${row.title} (${row.unit})`, ...['restic', 'daybook', 'local'].flatMap(name => [cell(results.get(name), 'cold'), cell(results.get(name), 'warm')]), ...ratios.map(({ text }) => text)])
  const resident = (name: string) => results.get(name)?.memory.map(({ residentMB }) => residentMB) ?? []
  memory.push([row.title, ...['restic', 'daybook'].flatMap((name, n) => peaks[n] === 0 ? ['', ''] : [figure(peaks[n]), figure(median(resident(name)))]),
    fits === null ? '' : fits ? 'yes' : 'NO'])
  record.push({ row: row.key, unit: row.unit, bars: row.bars, results: Object.fromEntries(results) })
}

console.log(`\n${machine}\n${version}, ${values.runs} runs, medians; "ours at least" in parentheses\n`)
console.log(table(['work', 'restic cold', 'warm', 'daybook cold', 'warm', 'local cold', 'warm', 'ratio cold', 'ratio warm'], speed))
console.log(`\nMemory of the mount process, MB: peak over all runs, median at the end of a step; to be under ${MEMORY_BAR_MB}\n`)
console.log(table(['work', 'restic peak', 'resident', 'daybook peak', 'resident', 'reached'], memory))
const measured = record.length > 0 && systems.includes('daybook')
if (measured) console.log(missed === 0 ? '\nEvery bar measured is reached.' : `\n${missed} bars are not reached.`)
if (values.json !== undefined) writeFileSync(values.json, JSON.stringify({ machine, restic: version, runs: Number(values.runs), rows: record }, null, 2) + '\n')
