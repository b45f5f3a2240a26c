import t from 'tap'
import { CorruptError, DaybookError } from '../../src/errors.js'
import { RowsFlag } from '../../src/format/tree-rows.js'
import { TreeLoader } from '../../src/repository/tree-loader.js'
import type { TreeLoaderOptions } from '../../src/repository/tree-loader.js'
import { silentLogger } from '../../src/util/log.js'
import { random, randomBytes } from '../fixtures/bytes.js'
import { FakePacks, idOf } from '../fixtures/fake-packs.js'

const turn = () => new Promise(setImmediate)

function makeLoader(packs: FakePacks, options: Partial<TreeLoaderOptions> = {}): TreeLoader {
  const { backend, index, codec, refresh } = packs
  return new TreeLoader({ backend, index, native: codec, refresh, keys: Buffer.alloc(64), log: silentLogger, ...options })
}

/** What the codec of the tests takes for rows. */
function tree(name: string, flags = 0, length = 1000): Buffer {
  const rows = randomBytes(name, length)
  rows.writeUInt32LE(flags, 24)
  return rows
}
const trees = (name: string, count: number, length = 1000) => Array.from({ length: count }, (_, i) => tree(`${name} ${i}`, 0, length))
const codeOf = (load: Promise<Buffer>): Promise<Buffer | string> => load.catch(error => (error as DaybookError).code)

t.test('what several want in one turn comes with one read and one decoding, and goes into the index', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const all = trees('a', 10)
  packs.add(all)
  const ids = all.map(idOf)
  t.equal(loader.peek(ids[4]), null)
  t.strictSame(await Promise.all([loader.load(ids[4]), loader.load(ids[4]), loader.load(ids[7])]), [all[4], all[4], all[7]])
  t.equal(packs.backend.reads.length, 1)
  t.equal(packs.codec.calls, 1)
  t.equal(packs.codec.blobs, 2, 'what lies between is not decoded')
  t.strictSame([loader.peek(ids[4]), loader.peek(ids[7]), loader.peek(ids[5])], [all[4], all[7], null])
  await loader.close()
  t.strictSame([...packs.rowsStored.values()], [all[4], all[7]])
})

t.test('trees fetched ahead come in few reads, and are at hand then; one that cannot be had is told for itself', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const all = trees('a', 40)
  packs.add(all.slice(0, 20))
  packs.add(all.slice(20))
  const ids = [...all.map(idOf), Buffer.alloc(32, 7)]
  const got: (Buffer | string)[] = []
  await new Promise<void>(resolve => {
    loader.fetch(ids, (index, rows) => {
      got[index] = rows instanceof Error ? (rows as DaybookError).code : rows
      if (Object.keys(got).length === ids.length) resolve()
    })
  })
  t.strictSame(got, [...all, 'ERR_NOT_FOUND'])
  t.equal(packs.backend.reads.length, 2)
  t.strictSame(all.map(one => loader.peek(idOf(one))), all)
  await loader.close()
})

t.test('the background leaves out what has rows, and begins only when told to', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { sliceBytes: 3 * 1032 })
  const all = trees('a', 10)
  packs.add(all)
  t.strictSame(await loader.load(idOf(all[7])), all[7])
  for (let i = 0; i < 20; i++) await turn()
  t.equal(packs.backend.reads.length, 1)
  while (packs.rowsStored.size < 1) await turn()
  await loader.fillInBackground()
  t.ok(loader.complete)
  t.strictSame(packs.backend.reads.map(({ offset, length }) => [offset / 1032, length / 1032]), [[7, 1], [0, 3], [3, 3], [6, 4]])
  t.equal(packs.codec.blobs, 10, 'each decoded once')
  await loader.close()
})

t.test('rows from the index cost no read', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const [one] = trees('a', 1)
  packs.rowsStored.set(idOf(one).toString('hex'), one)
  t.strictSame(loader.peek(idOf(one)), one)
  t.strictSame(await loader.load(idOf(one)), one)
  t.equal(packs.backend.reads.length, 0)
  await loader.close()
})

t.test('filling: newest packs first, everything once, then complete', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { sliceBytes: 2500 })
  const all = [...Array(6).keys()].map(p => trees(`p${p}`, 5))
  all.forEach(blobs => packs.add(blobs))
  const events: string[] = []
  const stop = loader.onFlagsKnown(() => { events.push('complete') })
  t.notOk(loader.complete, 'nothing is known yet')
  await loader.fillInBackground()
  t.ok(loader.complete)
  t.strictSame(events, ['complete'])
  t.equal(packs.rowsStored.size, 30)
  t.equal(packs.codec.blobs, 30)
  t.equal(packs.backend.mostAtOnce, 1)
  t.strictSame([...new Set(packs.backend.reads.map(({ pack }) => packs.packs.findIndex(({ name }) => name === pack)))], [5, 4, 3, 2, 1, 0])

  const late = trees('late', 2)
  packs.add(late)
  loader.indexChanged()
  t.notOk(loader.complete)
  await loader.fillInBackground()
  t.strictSame(events, ['complete', 'complete'])
  t.strictSame(loader.peek(idOf(late[1])), late[1])
  stop()
  await loader.close()
})

t.test('demand goes before filling', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { sliceBytes: 1032 })
  const blobs = trees('a', 30)
  const wanted = trees('b', 1)
  packs.add(wanted)
  packs.add(blobs)
  packs.backend.intercept = async () => {
    t.ok(packs.backend.atOnce <= 2, 'one slice beside demand')
    await turn()
  }
  const filled = loader.fillInBackground()
  while (packs.backend.reads.length < 3) await turn()
  const before = packs.backend.reads.length
  const load = loader.load(idOf(wanted[0]))
  t.strictSame(await load, wanted[0])
  const at = packs.backend.reads.findIndex(({ pack }) => pack === packs.packs[0].name)
  t.ok(at <= before, 'no slice was begun after it was wanted')
  await filled
  t.ok(loader.complete)
  await loader.close()
})

t.test('flags are told as they appear', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { sliceBytes: 1032 })
  packs.add([tree('plain'), tree('xattr', RowsFlag.xattr), tree('acl', RowsFlag.xattr | RowsFlag.acl), tree('xattr again', RowsFlag.xattr)])
  const told: number[] = []
  loader.onFlags(() => { throw new Error('listener') })
  loader.onFlags(flags => told.push(flags))
  t.equal(loader.flags, 0)
  await loader.fillInBackground()
  t.strictSame(told, [RowsFlag.xattr, RowsFlag.xattr | RowsFlag.acl])
  t.equal(loader.flags, RowsFlag.xattr | RowsFlag.acl)
  await loader.close()
})

t.test('when there is a hurry the flags of all trees are known long before their rows are stored', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const all = trees('a', 20)
  packs.add([...all, tree('b', RowsFlag.acl)])
  let stored!: () => void
  packs.storing = () => new Promise(resolve => { stored = resolve })
  const known = new Promise<void>(resolve => { loader.onFlagsKnown(resolve) })
  t.notOk(loader.flagsKnown)
  loader.hurry()
  const filled = loader.fillInBackground()
  await known
  t.ok(loader.flagsKnown)
  t.notOk(loader.complete)
  t.equal(loader.flags & RowsFlag.acl, RowsFlag.acl)
  packs.storing = async () => {}
  setTimeout(() => stored?.(), 20)
  await filled
  t.ok(loader.complete)
  packs.add(trees('c', 1))
  loader.indexChanged()
  t.notOk(loader.flagsKnown, 'there may be new ones')
  await loader.close()
})

t.test('of a tree that cannot be read, the flags are not known', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const pack = packs.add(trees('a', 20))
  packs.damage(pack, bytes => { bytes[40] ^= 1; return bytes })
  loader.hurry()
  await loader.fillInBackground()
  t.notOk(loader.flagsKnown)
  t.equal(packs.rowsStored.size, 19, 'all others have their rows')
  await loader.close()
})

t.test('one damaged pack costs only the trees concerned', async t => {
  const all = trees('a', 8)
  const stored = 1032
  for (const { name, change, lost } of [
    { name: 'a flipped byte', change: bytes => bytes.fill(bytes[2 * stored + 100] ^ 1, 2 * stored + 100, 2 * stored + 101), lost: [2] },
    { name: 'a missing byte', change: bytes => Buffer.concat([bytes.subarray(0, 5 * stored), bytes.subarray(5 * stored + 1)]), lost: [5, 6, 7] },
    { name: 'cut short', change: bytes => bytes.subarray(0, 3 * stored + 1), lost: [3, 4, 5, 6, 7] },
    { name: 'empty', change: () => Buffer.alloc(0), lost: [0, 1, 2, 3, 4, 5, 6, 7] },
  ] as { name: string, change: (bytes: Buffer) => Buffer, lost: number[] }[]) {
    const packs = new FakePacks()
    const loader = makeLoader(packs)
    const pack = packs.add(all)
    packs.damage(pack, change)
    t.strictSame(await Promise.all(all.map(one => codeOf(loader.load(idOf(one))))), all.map((one, i) => lost.includes(i) ? 'ERR_CORRUPT' : one), name)
    await loader.fillInBackground()
    t.ok(packs.tried.has(0), 'the pack is not tried for ever')
    t.notOk(loader.complete)
    await loader.close()
  }
})

t.test('a tree that cannot be understood', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const short = Buffer.from('no rows')
  const pack = packs.add([short, tree('a')])
  await t.rejects(loader.load(idOf(short)), { code: 'ERR_CORRUPT', file: `tree ${idOf(short).toString('hex')}`, reason: new RegExp(`not a tree.*${pack.name}`) })
  await loader.close()
})

t.test('another copy is taken', async t => {
  const all = trees('a', 6)
  for (const { name, spoil } of [
    { name: 'when bytes are wrong', spoil: (packs: FakePacks) => packs.damage(packs.packs[0], bytes => bytes.fill(9, 100, 2000)) },
    { name: 'when the pack is gone', spoil: (packs: FakePacks) => packs.remove(packs.packs[0]) },
    { name: 'when the pack is cut short', spoil: (packs: FakePacks) => packs.damage(packs.packs[0], bytes => bytes.subarray(0, 500)) },
  ]) {
    const packs = new FakePacks()
    const warnings: string[] = []
    const loader = makeLoader(packs, { log: { ...silentLogger, warn: message => { warnings.push(message) } } })
    packs.add(all)
    packs.add([...all].reverse())
    spoil(packs)
    t.strictSame(await Promise.all(all.map(one => loader.load(idOf(one)))), all, name)
    t.equal(packs.refreshes, 0)
    t.ok(warnings.length > 0)
    await loader.fillInBackground()
    t.ok(loader.complete, 'the copy counts')
    await loader.close()
  }
})

t.test('a tree that moved is found by one new look at the repository', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const all = trees('a', 4)
  const old = packs.add(all)
  const moved = packs.add(all, { listed: false, gap: 5 })
  packs.remove(old)
  packs.onRefresh = () => {
    old.listed = false
    return moved.listed = true
  }
  t.strictSame(await Promise.all(all.map(one => loader.load(idOf(one)))), all)
  t.equal(packs.refreshes, 1)
  await loader.close()
})

t.test('an unknown tree', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const late = packs.add(trees('a', 1), { listed: false })
  const unknown = loader.load(Buffer.alloc(32, 7))
  await t.rejects(unknown, { code: 'ERR_NOT_FOUND', file: `tree ${'07'.repeat(32)}` })
  t.equal(packs.refreshes, 1)
  packs.onRefresh = () => late.listed = true
  t.strictSame(await loader.load(idOf(tree('a 0'))), tree('a 0'))
  packs.onRefresh = () => { throw new DaybookError('ERR_UNREACHABLE', 'no route') }
  await t.rejects(loader.load(Buffer.alloc(32, 8)), { code: 'ERR_UNREACHABLE' })
  await loader.close()
})

t.test('an unreachable repository: filling waits until somebody got an answer', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { sliceBytes: 1032 })
  const all = trees('a', 5)
  packs.add(all)
  packs.backend.intercept = async () => { throw new DaybookError('ERR_UNREACHABLE', 'no route') }
  await loader.fillInBackground()
  t.equal(packs.backend.reads.length, 1, 'not tried again and again')
  t.equal(packs.tried.size, 0, 'nor given up')
  await t.rejects(loader.load(idOf(all[1])), { code: 'ERR_UNREACHABLE' })
  packs.backend.intercept = async () => {}
  t.strictSame(await loader.load(idOf(all[1])), all[1])
  while (!loader.complete) await turn()
  t.equal(packs.rowsStored.size, 5)
  await loader.close()
})

t.test('rows wait for a slow index, within bounds, and can be had meanwhile', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { sliceBytes: 2100, queueBytes: 5000, memoryBytes: 1300 })
  const all = trees('a', 20)
  packs.add(all)
  const go: (() => void)[] = []
  packs.storing = () => new Promise(resolve => { go.push(resolve) })
  const filled = loader.fillInBackground()
  let last = -1
  for (let quiet = 0; quiet < 50; quiet = packs.codec.blobs === last ? quiet + 1 : 0) {
    last = packs.codec.blobs
    await turn()
  }
  t.ok(packs.codec.blobs >= 5 && packs.codec.blobs <= 8, `${packs.codec.blobs} decoded, then waiting`)
  t.strictSame(loader.peek(idOf(all[0])), all[0], 'not stored yet')
  packs.storing = async () => {}
  go.forEach(resolve => resolve())
  await filled
  t.ok(loader.complete)
  t.equal(packs.codec.blobs, 20)
  await loader.close()
})

t.test('an index that takes nothing: trees are served, filling ends', async t => {
  const packs = new FakePacks()
  const warnings: string[] = []
  const loader = makeLoader(packs, { sliceBytes: 1032, log: { ...silentLogger, warn: message => { warnings.push(message) } } })
  const all = trees('a', 12)
  packs.add(all)
  packs.storing = async () => { throw new DaybookError('ERR_INDEX', 'disk full') }
  await loader.fillInBackground()
  t.ok(packs.backend.reads.length < 6)
  t.strictSame(await Promise.all(all.map(one => loader.load(idOf(one)))), all)
  t.strictSame(await Promise.all(all.map(one => loader.load(idOf(one)))), all)
  t.equal(warnings.length, 1, 'said once')
  await loader.close()
})

t.test('rows the index lost are decoded again, but not for ever', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const all = trees('a', 3)
  packs.add(all)
  packs.storing = async () => {}
  const putRows = packs.index.putRows
  packs.index.putRows = async () => {}
  await loader.fillInBackground()
  t.equal(packs.codec.calls, 2)
  t.notOk(loader.complete)
  packs.index.putRows = putRows
  packs.tried.clear()
  loader.indexChanged()
  await loader.fillInBackground()
  t.ok(loader.complete)
  await loader.close()
})

t.test('a tree larger than the memory', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { memoryBytes: 2000, sliceBytes: 2000 })
  const all = trees('a', 3, 5000)
  packs.add(all)
  packs.storing = async () => { throw new DaybookError('ERR_INDEX', 'disk full') }
  t.strictSame(await loader.load(idOf(all[1])), all[1])
  t.strictSame(loader.peek(idOf(all[1])), all[1], 'the last one is kept')
  await loader.close()
})

t.test('trees among data blobs far apart (a pack of format 1)', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const all = trees('a', 3)
  packs.add(all, { gap: 100_000 })
  t.strictSame(await loader.load(idOf(all[1])), all[1])
  t.strictSame(packs.backend.reads[0].length, 1032, 'what lies between is not read')
  await loader.close()
})

t.test('closing', async t => {
  for (const how of ['close', 'signal']) {
    const packs = new FakePacks()
    const abort = new AbortController()
    const loader = makeLoader(packs, { signal: abort.signal, sliceBytes: 1032 })
    const all = trees('a', 6)
    packs.add(all)
    packs.backend.intercept = (_, signal) => new Promise((_, reject) => signal!.addEventListener('abort', () => reject(new Error('aborted'))))
    const filled = loader.fillInBackground()
    const loads = all.map(one => codeOf(loader.load(idOf(one))))
    await turn()
    if (how === 'signal') abort.abort()
    else void loader.close()
    await loader.close()
    t.strictSame(await Promise.all(loads), Array(6).fill('ERR_ABORTED'))
    await filled
    t.notOk(loader.complete)
    t.equal(await codeOf(loader.load(idOf(all[0]))), 'ERR_ABORTED')
  }
})

t.test('3,000 random steps over a faulty repository', { timeout: 120_000 }, async t => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)
  const next = random(seed)
  const below = (n: number) => Math.floor(next() * n)
  const packs = new FakePacks()
  const all = Array.from({ length: 300 }, (_, i) => tree(`model ${i}`, 0, 28 + below(3000)))
  const ids = all.map(idOf)
  // 0..249 have a good copy, 250..279 only damaged ones, 280..299 are in no pack.
  for (let p = 0; p < 10; p++) {
    const members = Array.from({ length: 50 }, () => below(280))
    const pack = packs.add(members.map(i => all[i]))
    packs.damage(pack, bytes => {
      pack.blobs.forEach(({ offset, length }, at) => { if (members[at] >= 250 || below(6) === 0) bytes[offset + 16 + below(length - 32)] ^= 1 })
      return bytes
    })
  }
  packs.add(all.slice(0, 250))
  let faults = true
  packs.backend.intercept = async () => {
    for (let n = below(3); n > 0; n--) await turn()
    if (!faults) return
    if (below(50) === 0) throw new DaybookError('ERR_UNREACHABLE', 'injected')
    if (below(50) === 0) throw new CorruptError('pack', 'injected')
    if (below(50) === 0) return Buffer.alloc(below(9))
  }
  packs.storing = async () => { for (let n = below(10); n > 0; n--) await turn() }
  packs.onRefresh = () => below(4) === 0
  const loader = makeLoader(packs, { memoryBytes: 20_000, queueBytes: 30_000, sliceBytes: 8000 })
  void loader.fillInBackground()
  const wrong: string[] = []
  const loads: Promise<void>[] = []
  let had = 0
  for (let step = 0; step < 3000; step++) {
    const i = below(300)
    if (below(3) === 0) {
      const rows = loader.peek(ids[i])
      if (rows !== null && !rows.equals(all[i])) wrong.push(`step ${step}: wrong rows at hand of ${i}`)
    } else {
      loads.push(loader.load(ids[i]).then(rows => {
        had++
        if (!rows.equals(all[i]) || i >= 250) wrong.push(`step ${step}: wrong rows of ${i}`)
      }, error => {
        const { code } = error as DaybookError
        if (!['ERR_UNREACHABLE', 'ERR_CORRUPT', 'ERR_NOT_FOUND'].includes(code)) wrong.push(`step ${step}: ${error}`)
      }))
    }
    if (below(100) === 0) packs.rowsStored.clear()
    if (below(200) === 0) loader.indexChanged()
    if (below(3) === 0) await turn()
  }
  await Promise.all(loads)
  faults = false
  t.strictSame(await Promise.all(ids.map(async (id, i) => {
    const answer = await codeOf(loader.load(id))
    return answer instanceof Buffer ? answer.equals(all[i]) : answer
  })), ids.map((id, i) => i < 250 || (packs.index.locate(id).length > 0 ? 'ERR_CORRUPT' : 'ERR_NOT_FOUND')), `seed ${seed}`)
  t.strictSame(wrong, [], `seed ${seed}`)
  t.ok(had > 1000)
  await loader.close()
})
