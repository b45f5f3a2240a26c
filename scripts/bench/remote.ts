import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { cpus, loadavg } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { readManifest } from './bench-repo.js'
import type { ProxyCounts } from './delay-proxy.js'
import { FarLink } from './far-link.js'
import { makeFolders } from './folders.js'
import { inTurn } from './in-turn.js'
import { daybookMounter, Mounted, resticMounter, type Memory, type Mounter } from './mounted.js'
import { REMOTE_ROWS, type RemoteRow } from './remote-rows.js'
import { SERVERS, type RemoteServer } from './remote-servers.js'
import { figure, table } from './table.js'
import { median } from './timed.js'

const HELP = `usage: scripts/bench/remote [options]

Times everyday work on the newest day of a repository behind a far link: restic mount and daybook, through a proxy on the loopback that delays each
direction by half the round trip, with the number of requests and bytes that came over it.
Make the repository first: scripts/bench/make-repo

  --only ROWS        comma-separated: ${REMOTE_ROWS.map(row => row.key).join(', ')} (default: all)
  --systems NAMES    comma-separated: restic, daybook (default: both)
  --servers NAMES    comma-separated: rest (rclone serve restic), s3 (a Ceph cluster, which takes as much disk as the repository) (default: both)
  --rtt MS           comma-separated: round trips (default: 20,100)
  --rate MBIT        the link's bandwidth in 10^6 bits per second; 0: as fast as the machine is (default: the round trips without a limit,
                     then the first one with 100)
  --runs N           medians of so many runs (default: 1)
  --sample N         restic reads only N files of cp and tar, and the figure is extrapolated to all; 0: all files (default: 300)
  --sample-ours N    the same for daybook, to look at something (default: 0)
  --no-warm          without the second mount
  --dir DIR          where the repositories are (default: $DAYBOOK_BENCH_DIR, else /var/tmp/daybook-bench)
  --scale N          the repository made with this --scale (default: 1)
  --restic PATH      default: $RESTIC, else restic
  --daybook PATH     default: bin/daybook of this tree
  --json FILE        write all figures there, too

Cold: a new process with empty cache directories. Warm: a new process that finds the cache directory of the cold one. The server's own files are in the
page cache in both cases: the link is what is measured.
`
const PROJECT = join(dirname(fileURLToPath(import.meta.url)), '../../..')
const MEMORY_BAR_MB = 250
const DEFAULT_RATE = 100

const { values } = parseArgs({
  options: {
    only: { type: 'string' }, systems: { type: 'string', default: 'restic,daybook' }, servers: { type: 'string', default: 'rest,s3' }, rtt: { type: 'string', default: '20,100' },
    rate: { type: 'string' }, runs: { type: 'string', default: '1' }, sample: { type: 'string', default: '300' }, 'sample-ours': { type: 'string', default: '0' },
    'no-warm': { type: 'boolean' }, dir: { type: 'string' }, scale: { type: 'string', default: '1' }, restic: { type: 'string' }, daybook: { type: 'string' },
    json: { type: 'string' }, help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}

type Temperature = 'cold' | 'warm'
const TEMPERATURES: readonly Temperature[] = values['no-warm'] ? ['cold'] : ['cold', 'warm']
interface Figures {
  readonly cold: number[]
  readonly warm: number[]
  readonly counts: Record<Temperature, ProxyCounts[]>
  readonly memory: Memory[]
  problem: string | null
}
interface Link { readonly roundTripMs: number, /** 10^6 bits per second */ readonly rate: number }

const base = values.dir ?? process.env.DAYBOOK_BENCH_DIR ?? '/var/tmp/daybook-bench'
const restic = values.restic ?? process.env.RESTIC ?? 'restic'
const mounters: Record<string, Mounter> = { restic: resticMounter(restic), daybook: daybookMounter(values.daybook ?? join(PROJECT, 'bin/daybook')) }
const systems = values.systems.split(',')
const samples: Record<string, number | null> = { restic: Number(values.sample) || null, daybook: Number(values['sample-ours']) || null }
const folder = join(base, Number(values.scale) === 1 ? 'standard' : `standard-${Number(values.scale)}`)
const manifest = readManifest(folder) ?? stop(`${folder} is not there: run scripts/bench/make-repo first`)
const wanted = values.only?.split(',')
for (const key of wanted ?? []) if (!REMOTE_ROWS.some(row => row.key === key)) stop(`no row ${key}`)
for (const server of values.servers.split(',')) if (!(server in SERVERS)) stop(`no server ${server}`)
const rtts = values.rtt.split(',').map(Number)
const links: Link[] = values.rate !== undefined
  ? values.rate.split(',').flatMap(rate => rtts.map(roundTripMs => ({ roundTripMs, rate: Number(rate) })))
  : [...rtts.map(roundTripMs => ({ roundTripMs, rate: 0 })), { roundTripMs: rtts[0], rate: DEFAULT_RATE }]

const { scratch, caches, mountpoints } = makeFolders(base)

function stop(message: string): never {
  console.error(message)
  process.exit(1)
}

/** One cold and one warm figure of a row. */
async function measureOnce(row: RemoteRow, mounter: Mounter, server: RemoteServer, link: Link, figures: Figures): Promise<void> {
  const cacheDir = mkdtempSync(join(caches, `${mounter.name}-`))
  const far = await FarLink.start({ port: server.port, roundTripMs: link.roundTripMs, bitsPerSecond: link.rate * 1e6 })
  const repository = { repository: server.locationAt(far.port), passwordFile: manifest.passwordFile }
  try {
    for (const temperature of TEMPERATURES) {
      // What restic keeps holds no data: where one figure is extrapolated, the second one would say the same.
      if (temperature === 'warm' && row.sampled && samples[mounter.name] !== null) continue
      const target = join(scratch, 'target')
      mkdirSync(target)
      const mounted = await Mounted.start(mounter, repository, mountpoints, cacheDir, 120)
      try {
        if (!row.isStart) await far.counts()
        const value = await row.run(mounted.latest, target, manifest, samples[mounter.name])
        figures[temperature].push(row.isStart ? Number(process.hrtime.bigint() - mounted.startedAt) / 1e9 : value)
        figures.counts[temperature].push(await far.counts())
      } finally {
        figures.memory.push(mounted.memory())
        await mounted.stop()
        rmSync(target, { recursive: true, force: true })
      }
    }
  } finally {
    far.stop()
    rmSync(cacheDir, { recursive: true, force: true })
  }
}

async function measure(row: RemoteRow, server: RemoteServer, link: Link): Promise<Map<string, Figures>> {
  const results = new Map(systems.map(system => [system, { cold: [], warm: [], counts: { cold: [], warm: [] }, memory: [], problem: null } as Figures]))
  return inTurn(row.key, Number(values.runs), results, (system, figures) => measureOnce(row, mounters[system], server, link, figures))
}

/** Extrapolated figures are marked: they hold for the small files only, and leave out what is large. */
function cell(row: RemoteRow, system: string, results: Map<string, Figures>, temperature: Temperature): string {
  const figures = results.get(system)
  if (figures === undefined) return ''
  if (figures[temperature].length === 0) return figures.problem === null ? '' : 'failed'
  return (row.sampled && samples[system] !== null ? '~' : '') + figure(median(figures[temperature]))
}

function traffic(figures: Figures | undefined, temperature: Temperature): string {
  const counts = figures?.counts[temperature] ?? []
  if (counts.length === 0) return ''
  return `${Math.round(median(counts.map(({ requests }) => requests)))} / ${figure(median(counts.map(({ bytes }) => bytes)) / 1e6)}`
}

/** Our speed divided by restic's, and whether that reaches the bar. Without a second figure of restic's, its first one counts. */
function ratio(row: RemoteRow, results: Map<string, Figures>, temperature: Temperature): { text: string, reached: boolean | null } {
  const bar = row.bars[temperature]
  const ours = results.get('daybook')?.[temperature] ?? []
  const theirs = [results.get('restic')?.[temperature] ?? [], results.get('restic')?.cold ?? []].find(values => values.length > 0) ?? []
  if (results.get('daybook')?.problem) return { text: 'failed', reached: false }
  if (ours.length === 0 || theirs.length === 0) return { text: '', reached: null }
  const value = row.unit === 's' ? median(theirs) / median(ours) : median(ours) / median(theirs)
  return bar === null ? { text: `${value.toFixed(1)}x`, reached: null } : { text: `${value.toFixed(1)}x (${bar}x) ${value >= bar ? 'yes' : 'NO'}`, reached: value >= bar }
}

const machine = `${cpus().length} cores, ${cpus()[0]?.model ?? 'unknown processor'}, Linux ${readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()}, Node ${process.version}`
const version = spawnSync(restic, ['version'], { encoding: 'utf8' }).stdout?.split(' ').slice(0, 2).join(' ') ?? 'no restic'
if (loadavg()[0] > 1) console.error(`warning: this machine is busy (load ${loadavg()[0].toFixed(1)}), so the figures mean little`)

const record: unknown[] = []
let judged = 0
let missed = 0
console.log(`\n${machine}\n${version}, ${values.runs} runs, medians; "ours at least" in parentheses`)
if (systems.includes('restic') && samples.restic !== null) console.log(`~ extrapolated from ${samples.restic} small files, by their number; large files left out, so it is too short`)
for (const name of values.servers.split(',')) {
  const server = await SERVERS[name](manifest, caches)
  Object.assign(process.env, server.env)
  try {
    for (const link of links) {
      const speed: string[][] = []
      for (const row of REMOTE_ROWS) {
        if (wanted !== undefined && !wanted.includes(row.key)) continue
        const results = await measure(row, server, link)
        const ratios = (['cold', 'warm'] as const).map(temperature => ratio(row, results, temperature))
        const peak = Math.max(0, ...results.get('daybook')?.memory.map(({ peakMB }) => peakMB) ?? [])
        judged += ratios.filter(({ reached }) => reached !== null).length
        missed += ratios.filter(({ reached }) => reached === false).length + (peak >= MEMORY_BAR_MB ? 1 : 0)
        speed.push([`${row.title} (${row.unit})`, ...systems.flatMap(system => [cell(row, system, results, 'cold'), cell(row, system, results, 'warm'), traffic(results.get(system), 'cold')]),
          traffic(results.get('daybook'), 'warm'), ...ratios.map(({ text }) => text), peak === 0 ? '' : figure(peak)])
        record.push({ server: name, link, row: row.key, unit: row.unit, bars: row.bars, samples, results: Object.fromEntries(results) })
        if (values.json !== undefined) writeFileSync(values.json, JSON.stringify({ machine, restic: version, runs: Number(values.runs), rows: record }, null, 2) + '\n')
      }
      console.log(`\n${name}, ${link.roundTripMs} ms round trip${link.rate === 0 ? '' : `, ${link.rate} Mbit/s`}; traffic: requests / MB\n`)
      console.log(table(['work', ...systems.flatMap(system => [`${system} cold`, 'warm', 'traffic']), 'ours warm', 'ratio cold', 'ratio warm', 'our peak MB'], speed))
    }
  } finally {
    await server.stop()
  }
}
if (judged > 0) console.log(missed === 0 ? '\nEvery bar measured is reached.' : `\n${missed} bars are not reached.`)
