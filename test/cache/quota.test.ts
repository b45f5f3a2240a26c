import { existsSync, lstatSync, readdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { randomBytes } from '../fixtures/bytes.js'
import { DiskCacheCase, nameOf } from '../fixtures/disk-cache-case.js'
import { eventually } from '../fixtures/run.js'

const MiB = 1 << 20

t.test('what was used longest ago goes first, trees behind contents, small files last', async t => {
  const place = new DiskCacheCase(t)
  const options = { maxBytes: 10 * MiB, touchMs: 0 }
  const { backend, disk } = place.open(options)
  const index = randomBytes('index', 900_000)
  place.memory.put({ type: 'index', name: nameOf(index) }, index)
  await backend.readAll({ type: 'index', name: nameOf(index) }, MiB)
  const packs = Array.from({ length: 12 }, (_, i) => place.pack(`pack ${i}`, MiB))
  const path = (i: number) => join(place.cacheDir, place.packsOnDisk().find(file => file.endsWith(packs[i].handle.name)) ?? 'none')
  const is = (i: number) => existsSync(path(i))
  for (let i = 0; i < 8; i++) {
    await backend.read(packs[i].handle, 0, MiB, i < 2 ? { treesUpTo: MiB } : {})
    await disk.settled()
    // as if it had been long ago
    const time = new Date(Date.now() - (1000 - i) * 1000)
    await eventually('it is there', () => is(i))
    utimesSync(path(i), time, time)
  }
  t.match(path(0), '/trees/')
  t.match(path(2), '/data/')
  t.ok([0, 1, 2, 3, 4, 5, 6, 7].every(is))
  await backend.read(packs[2].handle, 0, 10)
  for (let i = 8; i < 11; i++) {
    await backend.read(packs[i].handle, 0, MiB)
    await disk.settled()
  }
  t.strictSame([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].filter(is), [0, 1, 2, 5, 6, 7, 8, 9, 10].filter(is))
  t.ok(is(0) && is(1), 'trees, though they are the oldest')
  t.ok(is(2), 'what was used again')
  t.notOk(is(3), 'contents that were not')
  t.ok(is(10), 'the newest')
  t.ok(place.files().some(file => file.endsWith(nameOf(index))))
  t.ok(place.bytesOnDisk() <= 10 * MiB + 64 * 1024, `${place.bytesOnDisk()} bytes on disk`)
})

t.test('the quota holds for two processes together, also when usage is not known or wrong', async t => {
  const place = new DiskCacheCase(t)
  const maxBytes = 16 * MiB
  const processes = [place.open({ maxBytes }), place.open({ maxBytes })]
  for (let i = 0; i < 60; i++) {
    const { backend, disk } = processes[i % 2]
    const { handle } = place.pack(`pack ${i}`, MiB)
    await backend.read(handle, 0, MiB)
    await disk.settled()
    const bytes = place.bytesOnDisk()
    if (bytes > maxBytes + 2 * MiB) return t.fail(`${bytes} bytes after ${i + 1}`)
    const usage = join(place.cacheDir, 'remote-1', 'usage')
    if (i === 30) rmSync(usage)
    if (i === 40) writeFileSync(usage, randomBytes('usage', 100))
  }
  t.ok(place.bytesOnDisk() > maxBytes / 2, 'and is used')
  t.strictSame(place.lines, [])
})

t.test('whoever was killed while he removed things hinders nobody', async t => {
  const place = new DiskCacheCase(t)
  const { backend, disk } = place.open({ maxBytes: 4 * MiB })
  await backend.read(place.pack('first', MiB).handle, 0, MiB)
  await disk.settled()
  const lock = join(place.cacheDir, 'remote-1', 'evicting')
  symlinkSync('999999999', lock)
  for (let i = 0; i < 8; i++) {
    await backend.read(place.pack(`pack ${i}`, MiB).handle, 0, MiB)
    await disk.settled()
  }
  t.ok(place.bytesOnDisk() <= 4 * MiB + 64 * 1024)
  t.notOk(lstatSync(lock, { throwIfNoEntry: false }))

  symlinkSync(String(process.pid), lock)
  for (let i = 10; i < 20; i++) {
    await backend.read(place.pack(`pack ${i}`, MiB).handle, 0, MiB)
    await disk.settled()
  }
  t.ok(place.bytesOnDisk() <= 6 * MiB, 'while somebody is at it, nothing more is written than that')
  t.ok(lstatSync(lock, { throwIfNoEntry: false }))
})

t.test('the default is a share of the file system', async t => {
  const place = new DiskCacheCase(t)
  const { backend, disk } = place.open({ maxBytes: null })
  await backend.read(place.pack('first', 10).handle, 0, 10)
  await disk.settled()
  const max = await disk.quota.max()
  t.ok(max > 0 && max <= 20e9, String(max))
})

t.test('all of it is ours alone, and backups leave it out', async t => {
  const place = new DiskCacheCase(t)
  const { backend, disk } = place.open()
  await backend.read(place.pack('first', 5000).handle, 0, 5000)
  await backend.list('snapshots')
  await disk.settled()
  await eventually('the list is there', () => place.files().some(file => file.includes('known')))
  t.match(place.files(), ['CACHEDIR.TAG'])
  for (const file of readdirSync(place.cacheDir, { recursive: true, encoding: 'utf8' })) t.equal(lstatSync(join(place.cacheDir, file)).mode & 0o077, 0, file)
  t.equal(statSync(place.cacheDir).mode & 0o777, 0o700)
})
