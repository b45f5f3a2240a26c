import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { DiskCacheCase } from '../fixtures/disk-cache-case.js'
import { eventually, output } from '../fixtures/run.js'
import { tier } from '../fixtures/tiers.js'

// The directory of the cache is full, read-only, gone or not ours; processes that use it are killed. Whatever is asked for comes, and is right.
const MiB = 1 << 20
t.setTimeout(120_000)

async function readAll(t: Test, place: DiskCacheCase, { backend, disk }: ReturnType<DiskCacheCase['open']>, packs: ReturnType<DiskCacheCase['pack']>[]): Promise<void> {
  for (const { handle, bytes } of packs) {
    if (!(await backend.read(handle, 0, bytes.length)).equals(bytes)) return void t.fail(`wrong bytes of ${handle.name}`)
    await disk.settled()
  }
  t.pass(`${packs.length} packs`)
}

t.test('removed during use: it is made again', async t => {
  const place = new DiskCacheCase(t)
  const packs = Array.from({ length: 10 }, (_, i) => place.pack(`pack ${i}`, MiB))
  const opened = place.open()
  await readAll(t, place, opened, packs)
  rmSync(place.cacheDir, { recursive: true })
  await readAll(t, place, opened, packs)
  await readAll(t, place, opened, packs)
  place.takeAsked()
  await readAll(t, place, place.open(), packs)
  t.strictSame(place.takeAsked(), [])
  t.strictSame(place.lines, [])

  const removing = (async () => {
    for (let i = 0; i < 20; i++) {
      rmSync(place.cacheDir, { recursive: true, force: true, maxRetries: 20 })
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  })()
  for (let i = 0; i < 8; i++) await readAll(t, place, opened, packs)
  await removing
})

t.test('in a place where nothing can be made', async t => {
  const place = new DiskCacheCase(t)
  writeFileSync(join(place.dir, 'file'), '')
  const packs = [place.pack('one', 1000), place.pack('two', 1000)]
  for (const cacheDir of [join(place.dir, 'file'), join(place.dir, 'file', 'below'), '/sys/daybook', '/proc/daybook']) {
    place.lines.length = 0
    const opened = place.open({ cacheDir, pauseMs: 50 })
    await readAll(t, place, opened, packs)
    await new Promise(resolve => setTimeout(resolve, 60))
    await readAll(t, place, opened, packs)
    t.equal(place.lines.length, 1, `${cacheDir}: said once`)
    t.match(place.lines[0], /the disk cache cannot be/)
  }
})

t.test('a directory of somebody else is not used', async t => {
  if (!tier(t, 'root', process.getuid!() === 0 || 'not root')) return
  const place = new DiskCacheCase(t)
  mkdirSync(place.cacheDir)
  await output('chown', ['12345', place.cacheDir])
  chmodSync(place.cacheDir, 0o777)
  await readAll(t, place, place.open(), [place.pack('one', 1000)])
  t.strictSame(readdirSync(place.cacheDir), [])
  t.match(place.lines, [/the disk cache cannot be written to/])
})

async function onTmpfs(t: Test, options: string): Promise<DiskCacheCase | null> {
  if (!tier(t, 'root', process.getuid!() === 0 || 'mounting a tmpfs needs root')) return null
  const place = new DiskCacheCase(t, 'cache-tmpfs')
  mkdirSync(place.cacheDir)
  await output('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', place.cacheDir])
  return place
}

t.test('on 50 MB, full below the quota', async t => {
  const place = await onTmpfs(t, 'size=50m')
  if (place === null) return
  const packs = Array.from({ length: 30 }, (_, i) => place.pack(`pack ${i}`, 4 * MiB))
  const opened = place.open({ maxBytes: 1 << 30, idleMs: 100 })
  await readAll(t, place, opened, packs)
  place.takeAsked()
  await readAll(t, place, opened, packs.slice(-3))
  t.ok(place.takeAsked().length < 3, 'some of it is there')
  await t.test('and others take the room', async t => {
    writeFileSync(join(place.cacheDir, 'filler'), '')
    try { for (;;) writeFileSync(join(place.cacheDir, 'filler'), Buffer.alloc(256 * 1024), { flag: 'a' }) } catch { /* full */ }
    await readAll(t, place, opened, packs)
    rmSync(join(place.cacheDir, 'filler'))
    await eventually('it is used again', async () => {
      await readAll(t, place, opened, packs.slice(0, 1))
      place.takeAsked()
      await readAll(t, place, opened, packs.slice(0, 1))
      return place.takeAsked().length === 0
    })
  })
  t.ok(place.lines.length <= 2, place.lines.join('\n'))
})

t.test('read-only: what is there is used', async t => {
  const place = await onTmpfs(t, 'size=50m')
  if (place === null) return
  const packs = Array.from({ length: 4 }, (_, i) => place.pack(`pack ${i}`, MiB))
  const first = place.open()
  await readAll(t, place, first, packs.slice(0, 2))
  await first.backend.close()
  await output('mount', ['-o', 'remount,ro', place.cacheDir])
  const second = place.open()
  place.takeAsked()
  await readAll(t, place, second, packs)
  t.equal(place.takeAsked().length, 2)
  t.match(place.lines, [/the disk cache cannot be written to/])
  await output('mount', ['-o', 'remount,rw', place.cacheDir])
  await eventually('it can be written to again', async () => {
    await readAll(t, place, second, packs.slice(2))
    return place.lines.length === 2
  })
  t.match(place.lines[1], /written to again/)
})

t.test('without inodes', async t => {
  const place = await onTmpfs(t, 'size=10m,nr_inodes=8')
  if (place === null) return
  await readAll(t, place, place.open(), Array.from({ length: 10 }, (_, i) => place.pack(`pack ${i}`, 10_000)))
  t.ok(place.lines.length <= 1)
})

t.test('processes that share it are killed while they write', async t => {
  const place = new DiskCacheCase(t, 'cache-killed')
  const child = fileURLToPath(new URL('../fixtures/cache-child.js', import.meta.url))
  const start = (seed: number) => {
    const process_ = spawn(process.execPath, [child, place.cacheDir, String(seed), String(12 * MiB), '8', String(4 * MiB)], { stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    process_.stdout.on('data', chunk => said += chunk)
    const closed = new Promise<number | null>(resolve => process_.on('close', code => resolve(code)))
    return { process_, closed, said: () => said }
  }
  const steady = start(1)
  for (let round = 0; round < 8; round++) {
    const victim = start(100 + round)
    await eventually('it has begun', () => victim.said().includes('begun'), 60_000)
    await new Promise(resolve => setTimeout(resolve, 30 + round * 40))
    victim.process_.kill('SIGKILL')
    await victim.closed
    t.notMatch(victim.said(), 'bad')
  }
  steady.process_.kill('SIGTERM')
  t.equal(await steady.closed, 0, 'the one that was not killed')
  const [, reads, wrong] = /end (\d+) (\d+)/.exec(steady.said())!.map(Number)
  t.comment(`${reads} reads beside them, ${wrong} of them wrong at first`)
  t.ok(reads > 0)
  t.ok(existsSync(place.cacheDir))
  t.ok(place.bytesOnDisk() <= 14 * MiB, `${place.bytesOnDisk()} bytes on disk`)
})
