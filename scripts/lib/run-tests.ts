import { spawn } from 'node:child_process'
import { appendFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

/*
 * Runs test files, each as a process of its own that prints TAP, and writes one stream of it all, each file a subtest:
 *   node dist/scripts/lib/run-tests.js [--jobs 2] [--limit SECONDS] --results FILE TEST.js...
 * `tap run` is not used: it loads its TypeScript compiler into each of the processes, which then take four times as long to start as these,
 * which are compiled already. A file has passed if it ended by itself with 0 in time and said that it made assertions of which none failed.
 */
const { values, positionals: files } = parseArgs({ allowPositionals: true, options: {
  jobs: { type: 'string', default: '2' }, limit: { type: 'string', default: '900' }, results: { type: 'string' },
} })
const results = values.results, jobs = Number(values.jobs), limitSeconds = Number(values.limit)
if (!results || !(jobs > 0) || !(limitSeconds > 0) || files.length === 0) throw new Error('usage: run-tests [--jobs N] [--limit SECONDS] --results FILE TEST.js...')

/** For a process that was told that its time is over to say where it stood. */
const LAST_WORDS_MS = 5000
/** For what has been written when a process ends; a longer wait would be for something it left behind. */
const DRAIN_MS = 2000
const COUNTS = ['total', 'pass', 'fail', 'skip', 'todo'] as const
type Counts = Record<typeof COUNTS[number], number>

interface Run { readonly stdout: string, readonly stderr: string, readonly end: string, readonly ms: number }

/** @returns `end` '' where it ended with 0 */
function run(file: string): Promise<Run> {
  return new Promise(resolve => {
    const start = performance.now()
    // tap has a limit of its own, which can tell the test that hangs; ours is for a process that does not even get to that.
    const child = spawn(process.execPath, [file], { env: { ...process.env, TAP_TIMEOUT: String(limitSeconds) }, stdio: ['ignore', 'pipe', 'pipe'] })
    running.add(child)
    const said = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
    for (const stream of ['stdout', 'stderr'] as const) child[stream].on('data', chunk => said[stream].push(chunk))
    let overdue = false
    const timers = [
      setTimeout(() => { overdue = true; child.kill('SIGALRM') }, limitSeconds * 1000 + LAST_WORDS_MS),
      setTimeout(() => child.kill('SIGKILL'), limitSeconds * 1000 + 2 * LAST_WORDS_MS),
    ]
    const ended = (end: string) => {
      running.delete(child)
      for (const timer of timers) clearTimeout(timer)
      const text = (stream: keyof typeof said) => Buffer.concat(said[stream]).toString()
      resolve({ stdout: text('stdout'), stderr: text('stderr'), end: overdue ? `still ran after ${limitSeconds} seconds` : end, ms: performance.now() - start })
    }
    child.on('error', error => ended(String(error)))
    child.on('exit', (code, signal) => {
      const end = signal ? `ended by ${signal}` : code === 0 ? '' : `exit code ${code}`
      const drain = setTimeout(() => { child.stdout.destroy(); child.stderr.destroy(); ended(end) }, DRAIN_MS)
      child.on('close', () => { clearTimeout(drain); ended(end) })
    })
  })
}

/** What tap counted, from its last line about it; null where there is none, so that it was not tap which ended the file. */
function countsOf(stdout: string): Counts | null {
  const line = stdout.match(/^# \{ total: .*\}$/gm)?.at(-1)
  if (!line) return null
  return Object.fromEntries(COUNTS.map(name => [name, Number(new RegExp(`[ {]${name}: (\\d+)`).exec(line)?.[1] ?? 0)])) as Counts
}

/** Every `not ok`, with its diagnostics. */
function failures(stdout: string): string[] {
  const lines = stdout.split('\n'), found: string[] = []
  for (let n = 0; n < lines.length; n++) {
    const match = /^( *)not ok \d+(?!.* # (TODO|SKIP))/.exec(lines[n]!)
    if (!match) continue
    found.push(lines[n]!)
    if (lines[n + 1]?.trim() === '---') do found.push(lines[++n]!); while (n + 1 < lines.length && lines[n] !== `${match[1]}  ...`)
  }
  return found
}

const running = new Set<ReturnType<typeof spawn>>()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    for (const child of running) child.kill('SIGTERM')
    process.exit(130)
  })
}

const start = performance.now()
const sum: Counts = { total: 0, pass: 0, fail: 0, skip: 0, todo: 0 }
const waiting = [...files]
let ended = 0
writeFileSync(results, 'TAP version 14\n')

async function work(): Promise<void> {
  for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
    const { stdout, stderr, end, ms } = await run(file)
    const counts = countsOf(stdout) ?? { total: 0, pass: 0, fail: 0, skip: 0, todo: 0 }
    const wrong = end || (counts.fail > 0 ? `${counts.fail} failed` : counts.total === 0 ? 'it did not say that it tested anything' : '')
    if (wrong && counts.fail === 0) {
      counts.fail++
      counts.total++
    }
    for (const name of COUNTS) sum[name] += counts[name]
    appendFileSync(results!, [
      `# Subtest: ${file}`, ...stdout.trimEnd().split('\n').map(line => line && `    ${line}`),
      `${wrong ? 'not ' : ''}ok ${++ended} - ${file} # time=${ms.toFixed(2)}ms`, ...wrong ? ['  ---', `  reason: ${JSON.stringify(wrong)}`, '  ...'] : [], '',
    ].join('\n'))
    if (wrong) console.log([`FAIL  ${file}: ${wrong}`, ...failures(stdout), ...stderr ? ['it wrote to stderr:', stderr.slice(-4000)] : []].join('\n'))
    else if (process.stdout.isTTY) console.log(`ok    ${file}  ${(ms / 1000).toFixed(1)} s`)
  }
}
await Promise.all(Array.from({ length: jobs }, work))

const counts = COUNTS.filter(name => sum[name] > 0 || name === 'total' || name === 'pass').map(name => `${name}: ${sum[name]}`)
appendFileSync(results, `1..${ended}\n# { ${counts.join(', ')} }\n# time=${(performance.now() - start).toFixed(2)}ms\n`)
process.exitCode = sum.fail > 0 ? 1 : 0
