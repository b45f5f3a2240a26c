import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openIndex } from '../../src/index/open-index.js'
import { random } from '../../test/fixtures/bytes.js'
import { fill, makeIndexCase, readAll } from '../../test/fixtures/index-case.js'
import { randomId } from '../../test/fixtures/index-json.js'

/*
 * Several processes work on one index, are killed with SIGKILL at random moments, and now and then the files are damaged under their hands.
 * After each round no answer may be wrong, an index that was not damaged must be sound, and filling it again must succeed.
 *   node dist/scripts/soak/index-kill.js [--rounds 200] [--processes 3] [--damage 0.3] [--seed N]
 */
const { values } = parseArgs({ options: {
  rounds: { type: 'string', default: '200' }, processes: { type: 'string', default: '3' }, damage: { type: 'string', default: '0.3' }, seed: { type: 'string' },
} })
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 32))
console.log(`seed ${seed}`)
const next = random(seed)
const scratch = mkdtempSync(join(tmpdir(), 'daybook-soak-index-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
const temporary = join(scratch, 'tmp')
mkdirSync(temporary)
const env = { ...process.env, TMPDIR: temporary }
const CHILD = join(dirname(fileURLToPath(import.meta.url)), '../../test/fixtures/index-child.js')
const [FILES, BLOBS] = [8, 120]
const fixture = makeIndexCase(seed, { files: FILES, blobs: BLOBS })
const repositoryId = randomId(next)
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

/** From another process: see test/index/damage.test.ts. */
function damage(): string {
  const file = join(scratch, repositoryId, 'index-1', 'index.db')
  const kind = ['cut', 'page', 'byte', 'delete', 'log'][Math.floor(next() * 5)]
  const at = Math.floor(next() * (statSync(file, { throwIfNoEntry: false })?.size ?? 0))
  const script = {
    cut: `truncate -s ${at} "$1"`,
    page: `head -c 8192 /dev/urandom | dd of="$1" bs=8192 seek=${Math.floor(at / 8192)} conv=notrunc`,
    byte: `head -c 1 /dev/urandom | dd of="$1" bs=1 seek=${at} conv=notrunc`,
    delete: 'rm -rf "$(dirname "$1")"',
    log: 'rm -f "$1"-wal',
  }[kind]
  // The file may be about to be replaced.
  try { execFileSync('sh', ['-c', script!, 'sh', file], { stdio: 'ignore' }) } catch { return `${kind} (missed)` }
  return kind
}

for (let round = 1; round <= Number(values.rounds); round++) {
  const failed: string[] = []
  const children = Array.from({ length: Number(values.processes) }, () => {
    const child = spawn(process.execPath, [CHILD, 'churn', scratch, repositoryId, String(seed), String(FILES), String(BLOBS)], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    let text = ''
    child.stderr.on('data', (data: Buffer) => { text = (text + data.toString()).slice(-4000) })
    const ended = new Promise<void>(resolve => child.on('exit', (code, signal) => {
      if (signal !== 'SIGKILL') failed.push(`exit ${code ?? signal}: ${text}`)
      resolve()
    }))
    return { child, ended }
  })
  await pause(200 + next() * 2500)
  const damaged = next() < Number(values.damage) ? damage() : null
  if (damaged) await pause(next() * 1500)
  for (const { child } of children) {
    await pause(next() * 100)
    child.kill('SIGKILL')
  }
  await Promise.all(children.map(({ ended }) => ended))

  const warnings: string[] = []
  const index = await openIndex({ cacheDir: scratch, repositoryId, log: { warn: (message, fields) => warnings.push(`${message} ${JSON.stringify(fields)}`) } })
  const unknown = readAll(index, fixture)
  const sound = await index.check()
  await fill(index, fixture)
  await index.close()
  if (failed.length > 0 || (!damaged && (!sound || warnings.length > 0))) {
    throw new Error(`round ${round}, ${damaged ?? 'no damage'}: sound ${sound}\n${[...failed, ...warnings].join('\n')}`)
  }
  if (round % 10 === 0 || damaged) console.log(`round ${round}: ${damaged ?? 'killed'}, unknown ${unknown.blobs} blobs, ${unknown.rows} rows${sound ? '' : ', built again'}`)
  for (const name of readdirSync(temporary)) rmSync(join(temporary, name), { recursive: true })
}
console.log('ok')
