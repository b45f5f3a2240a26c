import { mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LocalBackend } from '../../src/backend/local.js'
import { random, randomBytes } from '../fixtures/bytes.js'
import { backendSuite } from '../fixtures/backend-suite.js'
import { DiskCacheCase, nameOf } from '../fixtures/disk-cache-case.js'
import { eventually } from '../fixtures/run.js'

const KiB = 1024
const MiB = 1024 * KiB

const suite = new DiskCacheCase(t, 'cached-suite')
let folders = 0
for (const maxBytes of [1 << 30, 0]) {
  backendSuite(t, maxBytes === 0 ? 'a disk cache without packs' : 'a disk cache', () => {
    suite.memory.files.clear()
    const { backend } = suite.open({ cacheDir: join(suite.dir, String(folders++)), maxBytes })
    return { backend, put: (handle, bytes) => suite.memory.put(handle, bytes), remove: handle => suite.memory.remove(handle) }
  })
}

t.test('what was read once is not asked of the remote again, also by the next process', async t => {
  const place = new DiskCacheCase(t)
  const { handle, bytes } = place.pack('pack', 300_000)
  const first = place.open()
  t.ok((await first.backend.read(handle, 1001, 50_000)).equals(bytes.subarray(1001, 51_001)))
  await first.disk.settled()
  t.ok((await first.backend.read(handle, 1001, 50_000)).equals(bytes.subarray(1001, 51_001)))
  await first.backend.close()
  const second = place.open()
  for (const [offset, length] of [[1001, 50_000], [1001, 1], [51_000, 1], [20_000, 20_000]]) {
    t.ok((await second.backend.read(handle, offset, length)).equals(bytes.subarray(offset, offset + length)), `${length} at ${offset}`)
  }
  t.strictSame(place.takeAsked(), ['1001+50000'])
  for (const [offset, length] of [[1000, 1], [51_001, 1]]) await second.backend.read(handle, offset, length)
  t.strictSame(place.takeAsked(), ['1000+1', '51001+1'], 'not a byte more is believed to be there')
})

t.test('only what is missing is fetched; what lies between is, if it is little', async t => {
  const place = new DiskCacheCase(t)
  const { handle, bytes } = place.pack('pack', 8 * MiB)
  const { backend, disk } = place.open()
  for (const [offset, length] of [[0, 100], [MiB, MiB], [3 * MiB, 10 * KiB], [5 * MiB, MiB]]) await backend.read(handle, offset, length)
  await disk.settled()
  place.takeAsked()
  const ask = async (offset: number, length: number) => {
    t.ok((await backend.read(handle, offset, length)).equals(bytes.subarray(offset, offset + length)), `${length} at ${offset}`)
    await disk.settled()
    return place.takeAsked()
  }
  t.strictSame(await ask(0, 2 * MiB), [`100+${MiB - 100}`])
  t.strictSame(await ask(2 * MiB, 2 * MiB), [`${2 * MiB}+${2 * MiB}`], 'one request over 10 KiB that were there')
  t.strictSame(await ask(4 * MiB, 3 * MiB), [`${4 * MiB}+${MiB}`, `${6 * MiB}+${MiB}`], 'two around a MiB that was there')
  t.strictSame(await ask(0, 7 * MiB), [])
})

t.test('trees come with what lies around them in their pack, once, and as long as that is not too much', async t => {
  const place = new DiskCacheCase(t)
  const { handle, bytes } = place.pack('pack', 4 * MiB)
  const { backend, disk } = place.open()
  const treesUpTo = 3 * MiB + 100
  const ask = async (offset: number, length: number, upTo: number | undefined = treesUpTo) => {
    t.ok((await backend.read(handle, offset, length, { treesUpTo: upTo })).equals(bytes.subarray(offset, offset + length)), `${length} at ${offset}`)
    return place.takeAsked()
  }
  t.strictSame((await Promise.all([ask(600 * KiB, 100), ask(700 * KiB, 100), ask(550 * KiB, 10)])).flat(), [`${512 * KiB}+${512 * KiB}`], 'asked for at once')
  await disk.settled()
  t.strictSame(await ask(513 * KiB, 500 * KiB), [])
  t.strictSame(await ask(511 * KiB, 2 * KiB), [`0+${512 * KiB}`], 'up to what is there')
  t.strictSame(await ask(3 * MiB + 10, 20), [`${3 * MiB}+100`], 'no further than the trees go')
  t.strictSame(await ask(treesUpTo, 100), [`${treesUpTo}+100`], 'what is behind them is no tree')
  t.strictSame(await ask(2 * MiB + 1, 100, 0), [`${2 * MiB + 1}+100`], 'where they end is not known')
  t.match(place.packsOnDisk(), [/trees/])
  const { handle: other, bytes: others } = place.pack('other', 2 * MiB)
  const both = await Promise.all([[100 * KiB, 700 * KiB], [900 * KiB, KiB]].map(([offset, length]) => backend.read(other, offset, length, { treesUpTo: 2 * MiB })))
  t.ok(both[0].equals(others.subarray(100 * KiB, 800 * KiB)) && both[1].equals(others.subarray(900 * KiB, 901 * KiB)))
  t.strictSame(place.takeAsked(), [`0+${MiB}`], 'what is on its way is not fetched once more')

  place.memory.put({ type: 'data', name: nameOf('many') }, Buffer.alloc(100 * MiB))
  for (let i = 0; i < 200; i++) {
    await backend.read({ type: 'data', name: nameOf('many') }, i * 512 * KiB, 1000, { treesUpTo: 100 * MiB })
    await disk.settled()
  }
  const fetched = place.takeAsked().reduce((sum, range) => sum + Number(range.split('+')[1]), 0)
  t.ok(fetched > 30 * MiB && fetched < 36 * MiB, `${fetched} bytes for 200,000`)
})

t.test('random reads of two processes are right, and each byte crosses the line once', async t => {
  const place = new DiskCacheCase(t)
  const { handle, bytes } = place.pack('pack', 2 * MiB)
  const processes = [place.open(), place.open()]
  const next = random(7)
  for (let i = 0; i < 400; i++) {
    const offset = Math.floor(next() * bytes.length)
    const length = Math.floor(next() * Math.min(100_000, bytes.length - offset))
    const { backend, disk } = processes[i % 2]
    const got = await backend.read(handle, offset, length)
    if (!got.equals(bytes.subarray(offset, offset + length))) return t.fail(`read ${i}: ${length} at ${offset}`)
    await disk.settled()
  }
  for (const { backend, disk } of processes) {
    t.ok((await backend.read(handle, 0, bytes.length)).equals(bytes))
    await disk.settled()
  }
  place.takeAsked()
  for (const { backend } of processes) await backend.read(handle, 0, bytes.length)
  t.strictSame(place.takeAsked(), [])
})

t.test('who wants what is on its way, to here or to the disk, shares it', async t => {
  const place = new DiskCacheCase(t)
  const { handle, bytes } = place.pack('pack', 4 * MiB)
  const { backend, disk } = place.open()
  const parts = await Promise.all([[0, 2 * MiB], [0, 2 * MiB], [1000, 5000], [MiB, MiB]].map(async ([offset, length]) => ({ offset, length, got: await backend.read(handle, offset, length) })))
  for (const { offset, length, got } of parts) t.ok(got.equals(bytes.subarray(offset, offset + length)))
  t.strictSame(place.takeAsked(), [`0+${2 * MiB}`])
  t.ok((await backend.read(handle, 77, MiB)).equals(bytes.subarray(77, 77 + MiB)), 'before the disk has it')
  t.strictSame(place.takeAsked(), [])
  await disk.settled()

  place.remote.faults = [{ kind: 'stall', operation: 'read', times: 1 }]
  const [one, two] = [new AbortController(), new AbortController()]
  const reads = [one, two].map(({ signal }) => backend.read(handle, 3 * MiB, 10, { signal }).catch((error: { code: string }) => error.code))
  await new Promise(resolve => setTimeout(resolve, 50))
  one.abort()
  t.equal(await reads[0], 'ERR_ABORTED')
  two.abort()
  t.equal(await reads[1], 'ERR_ABORTED')
  t.ok((await backend.read(handle, 3 * MiB, 10)).equals(bytes.subarray(3 * MiB, 3 * MiB + 10)), 'and a fetch that everybody gave up is begun anew')
})

t.test('bytes that prove wrong are fetched again, and are right from then on', async t => {
  const place = new DiskCacheCase(t)
  const { handle, bytes } = place.pack('pack', 500_000)
  const { backend, disk } = place.open()
  await backend.read(handle, 0, bytes.length)
  await disk.settled()
  const [file] = place.packsOnDisk()
  const stored = readFileSync(join(place.cacheDir, file))
  stored[250_000] ^= 1
  writeFileSync(join(place.cacheDir, file), stored)
  t.notOk((await backend.read(handle, 0, bytes.length)).equals(bytes), 'the cache itself does not know')
  t.equal(backend.sources, 2)
  t.ok((await backend.read(handle, 240_000, 20_000, { again: 1 })).equals(bytes.subarray(240_000, 260_000)))
  await disk.settled()
  t.ok((await backend.read(handle, 0, bytes.length)).equals(bytes))
})

t.test('a file that was cut, or is none, costs a fetch', async t => {
  const place = new DiskCacheCase(t)
  const { handle, bytes } = place.pack('pack', 500_000)
  const opened = place.open()
  await opened.backend.read(handle, 0, bytes.length)
  await opened.backend.close()
  const [file] = place.packsOnDisk()
  const path = join(place.cacheDir, file)
  for (const [name, damage] of Object.entries({
    'bytes cut': () => truncateSync(path, 100_000),
    'bytes gone': () => truncateSync(path, 0),
    'the map cut within a record': () => truncateSync(`${path}.map`, 17),
    'the map full of rubbish': () => writeFileSync(`${path}.map`, randomBytes('rubbish', 3200)),
    'the map gone': () => rmSync(`${path}.map`),
    'the pack gone': () => rmSync(path),
    'another file in its place': () => { rmSync(path); writeFileSync(path, Buffer.alloc(500_000)) },
    'a directory in its place': () => { rmSync(path); mkdirSync(path) },
  })) {
    await t.test(name, async t => {
      damage()
      const { backend, disk } = place.open()
      t.ok((await backend.read(handle, 0, bytes.length)).equals(bytes), 'as if it were not there')
      t.ok(await eventually('or in another way', async () => {
        if (name === 'a directory in its place') rmSync(path, { recursive: true, force: true })
        const got = await backend.read(handle, 0, bytes.length, { again: 1 })
        await disk.settled()
        place.takeAsked()
        return got.equals(bytes) && (await backend.read(handle, 0, bytes.length)).equals(bytes) && place.takeAsked().length === 0
      }), 'and it is kept anew')
      await backend.close()
    })
  }
})

t.test('many ranges in one hop: what is there and nothing else', async t => {
  const place = new DiskCacheCase(t)
  const packs = [place.pack('one', 200_000), place.pack('two', 200_000), place.pack('three', 200_000)]
  const { backend, disk } = place.open()
  await backend.read(packs[0].handle, 1000, 50_000)
  await backend.read(packs[1].handle, 0, 200_000)
  await disk.settled()
  place.takeAsked()
  const into = Buffer.alloc(100_000, 0xaa)
  const ranges = [[0, 1000, 100], [0, 50_990, 10], [0, 50_990, 11], [1, 150_000, 50_000], [2, 0, 10], [1, 199_999, 2]].map(([pack, offset, length], i) => ({ handle: packs[pack].handle, offset, length, at: i * 15_000, pack }))
  t.strictSame(Array.from(await backend.readRanges(ranges, into)), [1, 1, 0, 1, 0, 0])
  for (const i of [0, 1, 3]) t.ok(into.subarray(ranges[i].at, ranges[i].at + ranges[i].length).equals(packs[ranges[i].pack].bytes.subarray(ranges[i].offset, ranges[i].offset + ranges[i].length)))
  t.strictSame(place.takeAsked(), [])
  const { near } = backend
  t.equal(near!.look([packs[0].handle.name, '', '../../etc/passwd']) === null, false)
  await near!.look([packs[0].handle.name, '', '../../etc/passwd'])
  t.equal(near!.has(packs[0].handle.name, 1000, 50_000), true)
  t.equal(near!.has(packs[0].handle.name, 999, 2), false)
  t.strictSame(place.lines, [])
})

t.test('what cannot be had says why, and leaves nothing behind', async t => {
  const place = new DiskCacheCase(t)
  const { handle } = place.pack('pack', 100_000)
  const { backend, disk } = place.open()
  place.remote.faults = [{ kind: 'fail', operation: 'read', times: 1 }]
  await t.rejects(backend.read(handle, 0, 10), { code: 'ERR_UNREACHABLE' })
  await t.rejects(backend.read(handle, 99_999, 2), { code: 'ERR_CORRUPT', reason: /truncated/ })
  await disk.settled()
  t.strictSame(place.packsOnDisk(), [])
})

t.test('key, snapshot and index files are kept whole, and go when they go', async t => {
  const place = new DiskCacheCase(t)
  const files = (['keys', 'snapshots', 'index'] as const).map((type, i) => {
    const bytes = randomBytes(type, 1000 + i)
    const handle = { type, name: nameOf(bytes) }
    place.memory.put(handle, bytes)
    return { handle, bytes }
  })
  place.memory.put({ type: 'config', name: '' }, randomBytes('config', 155))
  const first = place.open()
  for (const { handle, bytes } of files) {
    await first.backend.list(handle.type)
    t.ok((await first.backend.readAll(handle, 10_000)).equals(bytes))
  }
  await eventually('they are kept', () => place.files().filter(file => file.includes('/files/')).length === 3)
  place.remote.calls.length = 0
  const second = place.open()
  for (const { handle, bytes } of files) {
    t.ok((await second.backend.readAll(handle, 10_000)).equals(bytes))
    await t.rejects(second.backend.readAll(handle, 10), { code: 'ERR_CORRUPT' })
  }
  t.strictSame(place.remote.calls, [])

  const path = join(place.cacheDir, place.files().find(file => file.endsWith(files[2].handle.name))!)
  writeFileSync(path, 'rubbish')
  t.ok((await second.backend.readAll(files[2].handle, 10_000)).equals(files[2].bytes), 'a damaged one is fetched again')
  t.equal(place.remote.calls.length, 1)
  await eventually('and replaced', () => statSync(path, { throwIfNoEntry: false })?.size === 1002)

  place.memory.remove(files[1].handle)
  await second.backend.list('snapshots')
  await eventually('one that was forgotten goes', () => !place.files().some(file => file.endsWith(files[1].handle.name)))
})

t.test('a remote that does not answer at the start is done without, if it was heard of before', async t => {
  const place = new DiskCacheCase(t)
  const config = randomBytes('config', 155)
  const CONFIG = { type: 'config', name: '' } as const
  place.memory.put(CONFIG, config)
  const names = ['one', 'two'].map(nameOf)
  for (const name of names) place.memory.put({ type: 'snapshots', name }, Buffer.alloc(7))
  const ask = async ({ backend }: ReturnType<DiskCacheCase['open']>) => Promise.all([backend.readAll(CONFIG, 1000), backend.list('snapshots'), backend.list('keys')])

  place.remote.faults = [{ kind: 'fail' }]
  await t.rejects(ask(place.open({ startWithout: true })), { code: 'ERR_UNREACHABLE' }, 'it was not')
  place.remote.faults = []
  const first = place.open()
  await ask(first)
  await eventually('it is remembered', () => place.files().filter(file => file.includes('/known/')).length === 3)
  place.lines.length = 0

  for (const kind of ['fail', 'stall'] as const) {
    await t.test(kind, async t => {
      // What the test waits for does not keep the process alive.
      const alive = setInterval(() => {}, 1000)
      t.teardown(() => clearInterval(alive))
      place.remote.faults = [{ kind }]
      const late = new Promise((_, reject) => setTimeout(() => reject(new Error('it waits')), 500))
      await t.rejects(Promise.race([ask(place.open()), late]), 'commands that end need the remote')
      const second = place.open({ startWithout: true, graceMs: 100 })
      const started = performance.now()
      const [bytes, snapshots, keys] = await ask(second)
      t.ok(performance.now() - started < 1000)
      t.ok(bytes.equals(config))
      t.strictSame(snapshots.map(({ name }) => name).sort(), names.sort())
      t.ok(snapshots.every(({ size }) => size === 7))
      t.strictSame(keys, [])
      t.strictSame(place.lines.splice(0).map(line => line.slice(0, 27)), ['warn memory does not answer'], 'which is said once')
      const back = new Promise<void>(resolve => second.backend.onBack(resolve))
      place.remote.faults = []
      await back
      t.strictSame(place.lines.splice(0), ['info memory answers'])
      await second.backend.close()
    })
  }
  await t.test('a remote that refuses is not done without', async t => {
    const { RefusedError } = await import('../../src/errors.js')
    place.remote.faults = [{ kind: 'fail', error: new RefusedError('no') }]
    await t.rejects(ask(place.open({ startWithout: true })), { name: 'RefusedError' })
  })
})

t.test('reading from it is about as fast as from a folder', async t => {
  const place = new DiskCacheCase(t)
  const { handle, bytes } = place.pack('pack', 64 * MiB)
  const folder = join(place.dir, 'folder')
  mkdirSync(join(folder, 'data', handle.name.slice(0, 2)), { recursive: true })
  writeFileSync(join(folder, 'data', handle.name.slice(0, 2), handle.name), bytes)
  const { backend, disk } = place.open({ trustMs: 1000 })
  for (let at = 0; at < bytes.length; at += 8 * MiB) {
    await backend.read(handle, at, 8 * MiB)
    await disk.settled()
  }
  const local = new LocalBackend(folder)
  t.teardown(() => local.close())
  const into = Buffer.alloc(64 * 4096)
  const time = async (backend: { read: typeof local.read, readRanges: NonNullable<typeof local.readRanges> }) => {
    const started = performance.now()
    for (let at = 0; at < bytes.length; at += MiB) await backend.read(handle, at, MiB, { into: Buffer.allocUnsafeSlow(MiB) })
    for (let round = 0; round < 100; round++) {
      await backend.readRanges(Array.from({ length: 64 }, (_, i) => ({ handle, offset: (round * 64 + i) * 9973 % (63 * MiB), length: 4096, at: i * 4096 })), into)
    }
    return performance.now() - started
  }
  const best = { local: Infinity, cached: Infinity }
  for (let round = 0; round < 5; round++) {
    best.local = Math.min(best.local, await time(local))
    best.cached = Math.min(best.cached, await time(backend))
  }
  t.comment(`local ${best.local.toFixed(1)} ms, cached ${best.cached.toFixed(1)} ms`)
  t.ok(best.cached < best.local * 2 + 20, `${best.cached.toFixed(1)} ms against ${best.local.toFixed(1)} ms`)
  await backend.close()
})
