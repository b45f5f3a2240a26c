import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { openIndex } from '../../src/index/open-index.js'
import { fill, makeIndexCase, readAll } from '../fixtures/index-case.js'
import { randomId } from '../fixtures/index-json.js'
import { run } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { seeded } from '../fixtures/seeded.js'

const { seed, random } = seeded()
t.comment(`SEED=${seed}`)
const scratch = makeScratch('index-processes')
t.teardown(() => removeScratch(scratch))
const temporary = join(scratch, 'tmp')
mkdirSync(temporary)
const CHILD = join(dirname(fileURLToPath(import.meta.url)), '../fixtures/index-child.js')
const log = { warn: (message: string, fields?: object) => t.comment(`${message} ${JSON.stringify(fields)}`) }

const args = (action: string, repositoryId: string, files: number, blobs: number) =>
  [CHILD, action, scratch, repositoryId, String(seed), String(files), String(blobs)]
const child = (action: string, repositoryId: string, files: number, blobs: number) =>
  run(process.execPath, args(action, repositoryId, files, blobs), { env: { ...process.env, TMPDIR: temporary } })

for (const [name, action] of [['four processes fill one index at once', 'fill'], ['three processes reset one index again and again', 'reset']] as const) {
  t.test(name, async t => {
    const repositoryId = randomId(random)
    const [files, blobs] = action === 'fill' ? [12, 200] : [4, 60]
    const ends = await Promise.all(Array.from({ length: action === 'fill' ? 4 : 3 }, () => child(action, repositoryId, files, blobs)))
    for (const { code, stdout, stderr } of ends) {
      t.equal(code, 0, stderr)
      // One that has been reset under another's hands knows it only when it looks; wrong answers make it fail.
      if (action === 'fill') t.match(JSON.parse(stdout.toString()), { persistent: true, unknown: { blobs: 0, rows: 0 } })
    }
    const index = await openIndex({ cacheDir: scratch, repositoryId, log })
    t.teardown(() => index.close())
    if (action === 'fill') t.same(readAll(index, makeIndexCase(seed, { files, blobs })), { blobs: 0, rows: 0 })
    t.ok(await index.check(), 'sound, and the counts agree')
    t.equal(index.missingTrees(), action === 'fill' ? 0 : index.missingTrees())
    await fill(index, makeIndexCase(seed, { files, blobs }))
    t.same(readdirSync(join(scratch, repositoryId)), ['index-1'])
    t.same(readdirSync(temporary), [])
  })
}

t.test('killed at any moment, an index is usable', async t => {
  const repositoryId = randomId(random)
  const [files, blobs] = [6, 80]
  const fixture = makeIndexCase(seed, { files, blobs })
  const env = { ...process.env, TMPDIR: temporary }
  for (let round = 0; round < 6; round++) {
    const churning = spawn(process.execPath, args('churn', repositoryId, files, blobs), { env, stdio: ['ignore', 'pipe', 'inherit'] })
    // Somewhere behind the first lines, so that it is at work whatever the machine's speed.
    let lines = Math.floor(random() * 4)
    churning.stdout.on('data', (data: Buffer) => {
      lines -= data.toString().split('\n').length - 1
      if (lines < 0) setTimeout(() => churning.kill('SIGKILL'), random() * 50)
    })
    await new Promise(resolve => churning.on('exit', resolve))
    const index = await openIndex({ cacheDir: scratch, repositoryId, log })
    t.teardown(() => index.close())
    t.doesNotThrow(() => readAll(index, fixture), 'no answer is wrong')
    t.ok(await index.check(), 'sound, and the counts agree')
    await fill(index, fixture)
    t.ok(index.persistent)
    await index.close()
  }
})
