import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openIndex } from '../../src/index/open-index.js'
import { random } from '../../test/fixtures/bytes.js'
import { indexJson, makePack, randomId, someRows } from '../../test/fixtures/index-json.js'
import { figure, table } from './table.js'

/*
 * Speed and size of the local index: loads index files of a repository that never was, then looks blobs and rows up.
 *   node dist/scripts/bench/index.js [--blobs 1200000] [--trees 20000] [--dir FOLDER] [--seed N]
 */
const { values: { blobs: blobsText, trees: treesText, dir, seed: seedText } } = parseArgs({ options: {
  blobs: { type: 'string', default: '1200000' }, trees: { type: 'string', default: '20000' },
  dir: { type: 'string', default: tmpdir() }, seed: { type: 'string', default: '1' },
} })
const BLOBS_PER_FILE = 50_000
const BLOBS_PER_PACK = 90
const FILES_PER_TREE = 20

const seed = Number(seedText)
const next = random(seed)
const cacheDir = mkdtempSync(join(dir, 'daybook-bench-index-'))
process.on('exit', () => rmSync(cacheDir, { recursive: true, force: true }))
const lines: [string, string, string][] = []

const openStart = performance.now()
const index = await openIndex({ cacheDir, repositoryId: randomId(next), log: { warn: console.warn } })
lines.push(['open a new index', figure(performance.now() - openStart), 'ms'])

const rss = () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))![1]) / 1024
const folder = join(index.path, '..')
const sizes = () => Object.fromEntries(readdirSync(folder).map(name => [name, statSync(join(folder, name)).size / 2 ** 20]))

const some: Buffer[] = []
const treeIds: Buffer[] = []
const files: string[] = []
let loadMs = 0, loadCpu = 0, slowestMs = 0, largestLog = 0, total = 0, highest = 0
while (total < Number(blobsText)) {
  const count = Math.min(BLOBS_PER_FILE, Number(blobsText) - total)
  const trees = Math.ceil(Number(treesText) * count / Number(blobsText))
  const packs = [makePack(next, 'tree', trees)]
  for (let left = count - trees; left > 0; left -= BLOBS_PER_PACK) packs.push(makePack(next, 'data', Math.min(left, BLOBS_PER_PACK)))
  for (const { blobs } of packs) some.push(Buffer.from(blobs[blobs.length >> 1].id, 'hex'))
  for (const { id } of packs[0].blobs) treeIds.push(Buffer.from(id, 'hex'))
  const json = indexJson(packs)
  const name = randomId(next)
  files.push(name)
  const cpuStart = cpu()
  const start = performance.now()
  await index.addIndexFile(name, json)
  loadCpu += cpu() - cpuStart
  const ms = performance.now() - start
  loadMs += ms
  slowestMs = Math.max(slowestMs, ms)
  largestLog = Math.max(largestLog, sizes()['index.db-wal'])
  highest = Math.max(highest, rss())
  total += count
}
lines.push(['load index files', figure(loadMs / 1000), 's'], ['... blobs per second', figure(total / loadMs * 1000), '/s'],
  ['... CPU', figure(loadCpu), 's'], ['... slowest file', figure(slowestMs), 'ms'],
  ['... largest log', figure(largestLog), 'MiB'], ['... size', figure(sizes()['index.db']), 'MiB'], ['... resident (with the generator)', figure(highest), 'MiB'])

const rows = someRows(next, FILES_PER_TREE)
const rowsStart = performance.now()
for (let at = 0; at < treeIds.length; at += 100) await index.putRows(treeIds.slice(at, at + 100).map(id => ({ id, rows })))
lines.push([`store rows of ${treeIds.length} trees of ${rows.length} bytes`, figure((performance.now() - rowsStart) / 1000), 's'],
  ['... trees missing after that', figure(index.missingTrees()), ''])

/** us per call when so many come in one turn of the event loop: a turn has one transaction. The median of the turns: other processes are not our doing. */
async function time(title: string, ids: Buffer[], perTurn: number, action: (id: Buffer) => unknown): Promise<void> {
  const turns: number[] = []
  for (let round = 0; round < 3; round++) {
    for (let at = 0; at < ids.length; at += perTurn) {
      const turn = ids.slice(at, at + perTurn)
      const start = process.hrtime.bigint()
      for (const id of turn) if (action(id) === null) throw new Error(`${title}: nothing found`)
      turns.push(Number(process.hrtime.bigint() - start) / 1e3 / turn.length)
      await new Promise(resolve => setImmediate(resolve))
    }
  }
  lines.push([title, figure(turns.sort((x, y) => x - y)[turns.length >> 1]), 'us'])
}
/** CPU seconds of all threads. */
function cpu(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}
const locate = (id: Buffer) => index.locate(id)[0] ?? null
const hot = Array.from({ length: 10_000 }, (_, i) => some[i % 100])
const spread = some.map(id => ({ id, key: next() })).sort((a, b) => a.key - b.key).map(({ id }) => id)
await time('locate, 100 blobs again and again, 50 per turn', hot, 50, locate)
await time('locate, 100 blobs again and again, 1 per turn', hot, 1, locate)
await time('locate, any blob, 50 per turn', spread, 50, locate)
await time('locate, any blob, 1 per turn', spread, 1, locate)
await time('rows, in order of storing, 50 per turn', treeIds, 50, id => index.rows(id))
await time('rows, in order of storing, 1 per turn', treeIds, 1, id => index.rows(id))
await time('packsWithoutRows', spread.slice(0, 100), 1, () => index.packsWithoutRows(10))

const checkStart = performance.now(), checkCpu = cpu()
if (!await index.check()) throw new Error('the index is damaged')
lines.push(['check', figure((performance.now() - checkStart) / 1000), 's'], ['... CPU', figure(cpu() - checkCpu), 's'])
const removeStart = performance.now()
await index.removeIndexFiles(files.slice(0, 1))
lines.push(['remove one index file', figure((performance.now() - removeStart) / 1000), 's'])
highest = Math.max(highest, rss())
lines.push(['resident at most', figure(highest), 'MiB'])
await index.close()
const againStart = performance.now()
const again = await openIndex({ cacheDir, repositoryId: folder.split('/').at(-2)!, log: { warn: console.warn } })
lines.push(['open it again', figure(performance.now() - againStart), 'ms'])
await again.close()
console.log(`seed ${seed}, ${total} blobs in ${files.length} index files\n\n${table(['', 'value', 'unit'], lines)}`)
