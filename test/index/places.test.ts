import { execFileSync } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { LocalIndex } from '../../src/index/index.js'
import { defaultCacheDir, openIndex } from '../../src/index/open-index.js'
import { fill, makeIndexCase, readAll } from '../fixtures/index-case.js'
import { randomId } from '../fixtures/index-json.js'
import { run } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { seeded } from '../fixtures/seeded.js'
import { tier } from '../fixtures/tiers.js'

const { seed, random } = seeded()
t.comment(`SEED=${seed}`)
const scratch = makeScratch('index-places')
t.teardown(() => removeScratch(scratch))
const temporary = join(scratch, 'tmp')
mkdirSync(temporary)
process.env['TMPDIR'] = temporary

const isRoot = process.geteuid!() === 0 || 'not root'
const fixture = makeIndexCase(seed, { files: 3, blobs: 120 })

async function open(t: Test, cacheDir: string, repositoryId = randomId(random)): Promise<{ index: LocalIndex, warnings: string[] }> {
  const warnings: string[] = []
  const index = await openIndex({ cacheDir, repositoryId, log: { warn: message => warnings.push(message) } })
  t.teardown(() => index.close())
  return { index, warnings }
}

/** It works all the same, elsewhere, and leaves nothing behind. */
async function worksElsewhere(t: Test, { index, warnings }: { index: LocalIndex, warnings: string[] }): Promise<void> {
  await fill(index, fixture)
  t.same(readAll(index, fixture), { blobs: 0, rows: 0 })
  t.equal(index.persistent, false)
  t.equal(warnings.filter(line => line.includes('temporary folder')).length, 1, 'said once')
  const folder = dirname(index.path)
  t.equal(statSync(folder).mode & 0o777, 0o700)
  t.equal(statSync(index.path).mode & 0o777, 0o600)
  await index.close()
  t.notOk(existsSync(folder), 'and nothing is left of it')
}

function mountTmpfs(t: Test, name: string, options: string): string {
  const dir = join(scratch, name)
  mkdirSync(dir)
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir])
  t.teardown(() => { execFileSync('umount', ['-l', dir]) })
  return dir
}

t.test('where indexes live', async t => {
  for (const [name, env, uid, wanted] of [
    ['a user', { HOME: '/home/u' }, 1000, '/home/u/.cache/daybook'],
    ['a user with a cache of his own', { HOME: '/home/u', XDG_CACHE_HOME: '/data/cache' }, 1000, '/data/cache/daybook'],
    ['root', { HOME: '/root' }, 0, '/var/cache/daybook'],
    ['root who says otherwise', { HOME: '/root', XDG_CACHE_HOME: '/data/cache' }, 0, '/data/cache/daybook'],
    ['relative paths do not count', { HOME: '/home/u', XDG_CACHE_HOME: 'cache' }, 1000, '/home/u/.cache/daybook'],
  ] as const) t.equal(defaultCacheDir(env, uid), wanted, name)
  t.match(defaultCacheDir({}, 1000), /^\/.*\/daybook$/, 'no home')
})

t.test('a place where nothing can be made', async t => {
  const file = join(scratch, 'a file')
  writeFileSync(file, 'not a folder')
  symlinkSync('nowhere/at/all', join(scratch, 'dangling'))
  for (const [name, cacheDir] of Object.entries({
    'the cache directory is a file': file,
    'a parent of it is a file': join(file, 'cache'),
    'it is a dangling link': join(scratch, 'dangling'),
    'it is in /proc': '/proc/daybook',
    'its name is too long': join(scratch, 'n'.repeat(300)),
  })) await t.test(name, async t => worksElsewhere(t, await open(t, cacheDir)))
})

t.test('read-only', async t => {
  if (!tier(t, 'root', isRoot)) return
  const dir = mountTmpfs(t, 'read-only', 'size=20m')
  const repositoryId = randomId(random)
  const first = await open(t, dir, repositoryId)
  await fill(first.index, fixture)
  await first.index.close()
  execFileSync('mount', ['-o', 'remount,ro', dir])
  await t.test('with an index in it', async t => worksElsewhere(t, await open(t, dir, repositoryId)))
  await t.test('without', async t => worksElsewhere(t, await open(t, dir)))
  execFileSync('mount', ['-o', 'remount,rw', dir])
  const { index } = await open(t, dir, repositoryId)
  t.ok(index.persistent)
  t.same(readAll(index, fixture), { blobs: 0, rows: 0 }, 'what was there is there again')
})

t.test('a full disk', async t => {
  if (!tier(t, 'root', isRoot)) return
  for (const size of ['4k', '32k', '128k', '256k', '512k']) {
    await t.test(`of ${size}`, async t => worksElsewhere(t, await open(t, mountTmpfs(t, `full-${size}`, `size=${size}`))))
  }
  await t.test('that fills up later, and has room again at the next start', async t => {
    const dir = mountTmpfs(t, 'fills up', 'size=8m')
    const repositoryId = randomId(random)
    const { index, warnings } = await open(t, dir, repositoryId)
    await fill(index, fixture)
    t.ok(index.persistent)
    const heard: string[] = []
    index.onReset(reason => heard.push(reason))
    execFileSync('sh', ['-c', 'head -c 20m /dev/zero > "$1/filler" 2>/dev/null || :', 'sh', dir])
    t.same(readAll(index, fixture), { blobs: 0, rows: 0 }, 'reading goes on')
    const more = makeIndexCase(seed + 1, { files: 30, blobs: 300 })
    await fill(index, more)
    t.same(readAll(index, more), { blobs: 0, rows: 0 })
    t.equal(heard.length, 1)
    await fill(index, fixture)
    await worksElsewhere(t, { index, warnings })
    execFileSync('rm', [join(dir, 'filler')])
    const again = await open(t, dir, repositoryId)
    t.ok(again.index.persistent)
    await fill(again.index, fixture)
  })
  await t.test('everywhere', async t => {
    const dir = mountTmpfs(t, 'no room', 'size=4k')
    const before = process.env['TMPDIR']
    process.env['TMPDIR'] = dir
    t.teardown(() => { process.env['TMPDIR'] = before })
    const { index } = await open(t, join(dir, 'cache'))
    t.notOk(index.path.startsWith(dir), 'another folder for temporary files was found')
    await fill(index, fixture)
  })
})

t.test('without permission', async t => {
  if (!tier(t, 'root', isRoot)) return
  const closed = join(scratch, 'closed')
  mkdirSync(closed, { mode: 0o700 })
  const child = join(dirname(fileURLToPath(import.meta.url)), '../fixtures/index-child.js')
  const open = mkdtempSync('/tmp/daybook-nobody-')
  t.teardown(() => execFileSync('rm', ['-rf', open]))
  chownSync(open, 65534, 65534)
  // setpriv and not spawn's uid, so that the groups of root are gone too.
  const asNobody = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, child]
  const { code, stdout, stderr } = await run('setpriv', [...asNobody, 'fill', closed, randomId(random), '7', '2', '20'],
    { env: { ...process.env, TMPDIR: open, HOME: '/nonexistent' } })
  t.equal(code, 0, stderr)
  t.match(JSON.parse(stdout.toString()), { persistent: false, unknown: { blobs: 0, rows: 0 } })
  t.same(readdirSync(open), [])
})

t.test('the folder of somebody else', async t => {
  if (!tier(t, 'root', isRoot)) return
  const dir = join(scratch, 'shared')
  const repositoryId = randomId(random)
  mkdirSync(join(dir, repositoryId), { recursive: true })
  chownSync(join(dir, repositoryId), 65534, 65534)
  await worksElsewhere(t, await open(t, dir, repositoryId))
})

t.test('what was left behind is removed, when it is old', async t => {
  const cacheDir = join(scratch, 'leftovers')
  const repositoryId = randomId(random)
  const repository = join(cacheDir, repositoryId)
  const old = new Date(Date.now() - 30 * 24 * 3600_000)
  const make = (path: string, isOld: boolean) => {
    mkdirSync(path, { recursive: true })
    writeFileSync(join(path, 'index.db'), '')
    if (isOld) for (const each of [join(path, 'index.db'), path]) utimesSync(each, old, old)
    return path
  }
  const gone = [
    make(join(repository, 'index-0'), true), make(join(repository, 'index-999'), true), make(join(repository, 'index-1.aside-1-x'), true),
    make(join(temporary, 'daybook-index-4194303-abc'), true),
  ]
  const kept = [
    make(join(repository, 'index-2'), false), make(join(repository, 'index-1.aside-2-x'), false), make(join(temporary, 'daybook-index-4194302-abc'), false),
    make(join(repository, 'notes'), true), make(join(temporary, `daybook-index-${process.ppid}-abc`), true),
  ]
  const { index } = await open(t, cacheDir, repositoryId)
  t.ok(index.persistent)
  t.same(gone.filter(existsSync), [])
  t.same(kept.filter(path => !existsSync(path)), [])
})
