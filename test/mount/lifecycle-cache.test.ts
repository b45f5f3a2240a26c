import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { Lifecycle } from '../fixtures/lifecycle.js'
import { mountTier } from '../fixtures/mount-case.js'
import { output, run } from '../fixtures/run.js'

t.setTimeout(300_000)
if (!mountTier(t)) process.exit()
const life = await Lifecycle.make(t, 'cache')

t.test('a mount serves whatever the state of its cache directory', async t => {
  for (const { name, options, prepare } of [
    { name: 'read-only', options: 'ro,size=1m', prepare: () => {} },
    { name: 'full', options: 'size=64k', prepare: (dir: string) => { try { writeFileSync(`${dir}/filler`, Buffer.alloc(1 << 20)) } catch { /* as intended */ } } },
    { name: 'soon full', options: 'size=300k', prepare: () => {} },
    { name: 'without inodes', options: 'size=10m,nr_inodes=1', prepare: () => {} },
  ]) {
    const cacheDir = life.newDir(`cache-${name.replaceAll(' ', '-')}`)
    await output('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', cacheDir])
    prepare(cacheDir)
    const mounted = await life.mount(life.repo, { cacheDir })
    t.same(readdirSync(mounted.dir), ['2026-11-18', '2026-11-19', 'latest'], name)
    t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n', name)
    t.ok(readFileSync(mounted.latest('big.bin')).equals(readFileSync(life.path('source/big.bin'))), name)
    t.strictSame(await mounted.unmount(), { code: 0, signal: null }, name)
    await run('umount', [cacheDir])
  }
})

t.test('the cache directory is a file, or one that nobody may make', async t => {
  writeFileSync(life.path('file'), '')
  for (const cacheDir of [life.path('file'), life.path('file/below'), '/sys/daybook']) {
    const mounted = await life.mount(life.repo, { cacheDir })
    t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n', cacheDir)
    t.strictSame(await mounted.unmount(), { code: 0, signal: null }, cacheDir)
  }
})
