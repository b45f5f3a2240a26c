import t from 'tap'
import { DaybookError } from '../../src/errors.js'
import { openRepository } from '../../src/repository/open.js'
import { IndexSync, syncIndex } from '../../src/repository/sync-index.js'
import { FaultyBackend } from '../fixtures/faulty-backend.js'
import type { Fault } from '../fixtures/faulty-backend.js'
import { MemoryIndex } from '../fixtures/memory-index.js'
import { MemoryRepository, PASSWORD } from '../fixtures/memory-repository.js'

const data = (text: string) => [{ type: 'data' as const, plain: Buffer.from(text) }]
const flip = (bytes: Buffer) => { bytes[bytes.length >> 1] ^= 1; return bytes }

async function start(made: MemoryRepository, { faults = [] as Fault[], index = new MemoryIndex(), now = undefined as (() => number) | undefined } = {}) {
  const backend = new FaultyBackend(made.backend)
  const repository = await openRepository(backend, Buffer.from(PASSWORD))
  await repository.prefetch!.finished
  repository.prefetch!.drop()
  backend.calls.length = 0
  backend.faults = faults
  const damaged: DaybookError[] = []
  const sync = new IndexSync(repository, index.asLocalIndex(), { onDamaged: error => damaged.push(error), now })
  return { backend, repository, index, sync, damaged, ids: () => sync.snapshots.map(({ id }) => id) }
}

t.test('everything new is read, once, snapshots first', async t => {
  const made = new MemoryRepository()
  const pack = made.addPack(data('a'))
  const files = [made.addIndex([pack]), made.addIndex([])]
  const late = made.addSnapshot({ time: '2026-11-21T00:00:00Z' })
  const early = made.addSnapshot({ time: '2026-11-19T00:00:00Z' })
  const { backend, index, sync, damaged } = await start(made)
  const first = await sync.refresh()
  t.strictSame(first.snapshots.map(({ id }) => id), [early, late], 'oldest first')
  t.match(first, { added: [early, late], removed: [], newIndexFiles: 2, removedIndexFiles: 0, damaged: [], changed: true })
  t.strictSame([...index.indexFiles()].sort(), files.sort())
  t.strictSame([...index.stored.keys()].sort(), [early, late].sort(), 'snapshots are kept')
  t.strictSame(damaged, [])
  t.ok(backend.calls.indexOf('list snapshots/') < backend.calls.indexOf('list index/'))
  t.notOk(backend.calls.includes('list data/'), 'packs are not listed without need')

  backend.calls.length = 0
  t.match(await sync.refresh(), { added: [], removed: [], newIndexFiles: 0, removedIndexFiles: 0, changed: false })
  t.strictSame(backend.calls, ['list snapshots/', 'list index/'], 'the second look reads nothing')

  const again = await start(made, { index })
  await again.sync.refresh()
  t.strictSame(again.ids(), [early, late])
  t.strictSame(again.backend.calls, ['list snapshots/', 'list index/'], 'nor does another process')
})

t.test('what comes and goes', async t => {
  const made = new MemoryRepository()
  const [a, b] = [made.addPack(data('a')), made.addPack(data('b'))]
  const old = made.addIndex([a])
  const forgotten = made.addSnapshot({ hostname: 'old' })
  const { index, sync, ids } = await start(made)
  await sync.refresh()
  made.remove('index', old)
  made.remove('snapshots', forgotten)
  const merged = made.addIndex([a, b])
  const new_ = made.addSnapshot({ hostname: 'new' })
  t.match(await sync.refresh(), { added: [new_], removed: [forgotten], newIndexFiles: 1, removedIndexFiles: 1, changed: true })
  t.strictSame(ids(), [new_])
  t.strictSame([...index.stored.keys()], [new_])
  t.strictSame(index.calls, [`add ${old}`, `add ${merged}`, `remove ${old}`], 'the new place is known before the old one is forgotten')
})

t.test('damaged snapshots are reported once and left out', async t => {
  const made = new MemoryRepository()
  const good = made.addSnapshot()
  const bad = [made.addSnapshot({ hostname: 'a' }), made.addSnapshot({ tree: null })]
  made.damage('snapshots', bad[0], flip)
  const { backend, sync, damaged, ids } = await start(made)
  t.match(await sync.syncSnapshots(), { damaged: { length: 2 } })
  await sync.refresh()
  t.strictSame(ids(), [good])
  t.equal(damaged.length, 2)
  t.equal(backend.calls.filter(call => call === `readAll snapshots/${bad[0]}`).length, 3, 'read three times at first, not at the next look')
  made.remove('snapshots', bad[0])
  t.match(await sync.syncSnapshots(), { damaged: { length: 1 } }, 'forgotten with its file')
})

t.test('a snapshot that arrived corrupt was left out until the next mount', async t => {
  const made = new MemoryRepository()
  const name = made.addSnapshot()
  let now = 0
  const { backend, sync, damaged, ids } = await start(made, { faults: [{ type: 'snapshots', operation: 'readAll', times: 6, kind: 'short' }], now: () => now })
  const reads = () => backend.calls.filter(call => call === `readAll snapshots/${name}`).length
  for (const { at, read, shown } of [
    { at: 0, read: 3, shown: [] }, { at: 59_999, read: 3, shown: [] }, { at: 60_000, read: 6, shown: [] }, { at: 179_999, read: 6, shown: [] }, { at: 180_000, read: 7, shown: [name] },
  ]) {
    now = at
    await sync.refresh()
    t.strictSame({ read: reads(), shown: ids() }, { read, shown }, `at ${at} ms`)
  }
  t.equal(damaged.length, 1, 'told once')
})

t.test('a damaged index file: its packs are found by their own headers', async t => {
  const made = new MemoryRepository()
  const [a, b, c] = [made.addPack(data('a')), made.addPack([...data('b'), ...data('bb')]), made.addPack(data('c'))]
  made.addIndex([a])
  const bad = made.addIndex([b, c])
  made.damage('index', bad, flip)
  made.damage('data', c.name, bytes => bytes.subarray(0, -1))
  const { backend, index, sync, damaged } = await start(made)
  const { damaged: reasons, recovery, newIndexFiles } = await sync.refresh()
  t.equal(newIndexFiles, 1)
  t.match(reasons, [{ file: `index file ${bad}` }])
  t.equal(await recovery, 1)
  t.strictSame([...index.headerPacks], [[b.name, 2]], 'only those that no index file lists')
  t.match(damaged, [{ file: `index file ${bad}` }, { file: `pack ${c.name}` }], 'each reported once')

  backend.calls.length = 0
  await (await sync.refresh()).recovery
  t.strictSame(backend.calls, ['list snapshots/', 'list index/'], 'nothing is tried again while nothing changes')
  t.equal(damaged.length, 2)

  made.remove('data', b.name)
  made.addIndex([])
  await (await sync.refresh()).recovery
  t.strictSame([...index.headerPacks], [], 'a pack that is gone is dropped: no index file would say so')

  made.remove('index', bad)
  t.match(await sync.refresh(), { damaged: [] })
})

t.test('an index file that does not parse is damaged too', async t => {
  const made = new MemoryRepository()
  const bad = made.put('index', made.seal(Buffer.from('{"packs":[')))
  const { sync, index } = await start(made)
  t.match(await sync.syncIndexFiles(), { newIndexFiles: 0, damaged: [{ code: 'ERR_CORRUPT', file: `index file ${bad}` }] })
  t.equal(index.indexFiles().size, 0)
})

t.test('packs can be looked for without a damaged index file: one may be lost', async t => {
  const made = new MemoryRepository()
  const pack = made.addPack(data('a'))
  const { sync, index } = await start(made)
  await sync.refresh()
  t.equal(await sync.recoverPacks(), 1)
  t.strictSame([...index.headerPacks.keys()], [pack.name])
  t.equal(await sync.recoverPacks(), 0)
})

t.test('files that vanish while they are being read are no error', async t => {
  const made = new MemoryRepository()
  const snapshot = made.addSnapshot()
  const file = made.addIndex([])
  const { sync, damaged, backend } = await start(made, { faults: [{ operation: 'readAll', type: 'snapshots', kind: 'missing' }, { operation: 'readAll', type: 'index', times: 1, kind: 'missing' }] })
  const result = await sync.refresh()
  t.match(result, { added: [], newIndexFiles: 1, damaged: [] })
  t.equal(backend.calls.filter(call => call === 'list index/').length, 2, 'index files are listed again: a prune has put others in their place')
  t.strictSame(damaged, [])
  backend.faults = []
  t.match(await sync.refresh(), { added: [snapshot] })
  t.ok(file)
})

t.test('one file that cannot be read does not keep the others away, and is tried again', async t => {
  const made = new MemoryRepository()
  const [a, b] = [made.addSnapshot({ hostname: 'a' }), made.addSnapshot({ hostname: 'b' })]
  const [x, y] = [made.addIndex([]), made.addIndex([made.addPack(data('y'))])]
  const { sync, damaged, backend, index, ids } = await start(made, { faults: [{ name: a, kind: 'fail' }, { name: x, kind: 'fail' }] })
  await (await sync.refresh()).recovery
  t.strictSame(ids(), [b])
  t.strictSame([...index.indexFiles()], [y])
  t.match(damaged, [{ code: 'ERR_UNREACHABLE' }, { code: 'ERR_UNREACHABLE' }])
  backend.faults = []
  t.match(await sync.refresh(), { added: [a], newIndexFiles: 1, damaged: [] })
})

t.test('a repository that cannot be reached is an error, not an empty one', async t => {
  const made = new MemoryRepository()
  made.addSnapshot()
  made.addIndex([])
  for (const fault of [{ operation: 'list', type: 'snapshots' }, { operation: 'list', type: 'index' }, { operation: 'readAll' }] as const) {
    const { sync } = await start(made, { faults: [{ ...fault, kind: 'fail' }] })
    await t.rejects(sync.refresh(), { code: 'ERR_UNREACHABLE' }, JSON.stringify(fault))
  }
  const { sync, index, ids } = await start(made)
  await sync.refresh()
  const files = new Map(made.backend.files)
  made.backend.files.clear()
  await t.rejects(sync.refresh(), { code: 'ERR_UNREACHABLE', message: /is gone/ }, 'a disk that was unmounted')
  t.equal(index.indexFiles().size, 1, 'nothing was forgotten')
  t.equal(ids().length, 1)
  for (const [key, bytes] of files) if (!key.startsWith('snapshots/')) made.backend.files.set(key, bytes)
  t.match(await sync.refresh(), { removed: { length: 1 } }, 'all snapshots forgotten is possible')
})

t.test('an index that starts anew is filled again', async t => {
  const made = new MemoryRepository()
  const snapshot = made.addSnapshot()
  const file = made.addIndex([made.addPack(data('a'))])
  const { index, sync, ids } = await start(made)
  await sync.refresh()
  index.reset()
  await sync.refresh()
  t.strictSame([...index.indexFiles()], [file])
  t.strictSame(ids(), [snapshot])
})

t.test('an index that cannot keep snapshots does not keep them from being shown', async t => {
  const made = new MemoryRepository()
  const snapshot = made.addSnapshot()
  const index = new MemoryIndex()
  index.failPut = new DaybookError('ERR_INDEX', 'disk full')
  const { sync, ids } = await start(made, { index })
  await sync.refresh()
  t.strictSame(ids(), [snapshot])
})

t.test('stored snapshots that make no sense are taken from the repository', async t => {
  const made = new MemoryRepository()
  const snapshot = made.addSnapshot()
  const index = new MemoryIndex()
  index.stored.set(snapshot, '{"half":')
  const { sync, ids } = await start(made, { index })
  await sync.refresh()
  t.strictSame(ids(), [snapshot])
})

t.test('looks at the same time are shared', async t => {
  const made = new MemoryRepository()
  made.addIndex([])
  const { backend, sync } = await start(made)
  const first = Array.from({ length: 5 }, () => sync.refresh())
  await new Promise(resolve => process.nextTick(resolve))
  const later = Array.from({ length: 5 }, () => sync.refresh())
  await Promise.all([...first, ...later])
  t.equal(backend.calls.filter(call => call === 'list index/').length, 2, 'one for all who ask in one turn, and one for all who came during it')
})

t.test('closing ends what is under way', async t => {
  const made = new MemoryRepository()
  made.addSnapshot()
  const { sync } = await start(made, { faults: [{ operation: 'readAll', kind: 'stall' }] })
  const running = sync.refresh()
  setImmediate(() => sync.close())
  await t.rejects(running, { code: 'ERR_ABORTED' })
})

t.test('syncIndex waits for recovered packs', async t => {
  const made = new MemoryRepository()
  const pack = made.addPack(data('a'))
  made.damage('index', made.addIndex([pack]), flip)
  const index = new MemoryIndex()
  await syncIndex(await made.open(), index.asLocalIndex())
  t.strictSame([...index.headerPacks.keys()], [pack.name])
})

t.test('as long as a list is partial, nothing is forgotten', async t => {
  const made = new MemoryRepository()
  const [a, b] = [made.addPack(data('a')), made.addPack(data('b'))]
  const files = [made.addIndex([a]), made.addIndex([b])]
  const snapshots = [made.addSnapshot({ time: '2026-11-19T00:00:00Z' }), made.addSnapshot({ time: '2026-11-20T00:00:00Z' })]
  const { index, sync, ids, backend } = await start(made)
  await sync.refresh()
  made.remove('index', files[0])
  made.remove('snapshots', snapshots[0])
  const list = backend.list.bind(backend)
  let partial = true
  backend.list = (type, options) => {
    if (partial) options?.partial?.()
    return list(type, options)
  }
  t.match(await sync.refresh(), { removed: [], removedIndexFiles: 0, damaged: [] })
  t.strictSame(ids(), snapshots)
  const another = await start(made, { index })
  another.backend.list = backend.list
  await another.sync.refresh()
  t.strictSame(another.ids(), snapshots, 'nor by another process, which has them from the index')
  partial = false
  t.match(await sync.refresh(), { removed: [snapshots[0]], removedIndexFiles: 1 })
  t.strictSame(ids(), [snapshots[1]])
})
