import t from 'tap'
import { Prefetch } from '../../src/repository/prefetch.js'
import { openRepository } from '../../src/repository/open.js'
import { FaultyBackend } from '../fixtures/faulty-backend.js'
import { json, MemoryRepository, PASSWORD } from '../fixtures/memory-repository.js'

t.test('openRepository, both formats', async t => {
  for (const version of [1, 2] as const) {
    const made = new MemoryRepository(version)
    const repository = await made.open()
    t.match(repository, { id: made.id, version, keyName: made.keyName, config: { chunkerPolynomial: '25b468838dcb75' } })
    t.ok(repository.keys.equals(made.keys))
    await repository.close()
    t.ok(repository.keys.every(byte => byte === 0), 'keys are gone after close')
  }
})

t.test('nothing there is no repository', async t => {
  const made = new MemoryRepository()
  made.backend.files.clear()
  await t.rejects(made.open(), { code: 'ERR_NO_REPOSITORY', message: /no repository at memory/ })
})

t.test('a wrong password is one, whatever the config holds', async t => {
  const made = new MemoryRepository()
  await t.rejects(made.open({}, 'wrong'), { code: 'ERR_WRONG_PASSWORD' })
  await t.rejects(made.open({}, ''), { code: 'ERR_WRONG_PASSWORD' })
})

t.test('a damaged config is damage, not a wrong password', async t => {
  for (const [name, change] of Object.entries<(bytes: Buffer) => Buffer>({
    'empty': () => Buffer.alloc(0), 'cut short': bytes => bytes.subarray(0, -1), 'cut to its IV': bytes => bytes.subarray(0, 16), 'a surplus byte': bytes => Buffer.concat([bytes, Buffer.alloc(1)]),
    'a bit': bytes => { bytes[20] ^= 4; return bytes }, 'too long': () => Buffer.alloc(2 << 20),
  })) {
    const made = new MemoryRepository()
    made.damage('config', '', change)
    await t.rejects(made.open(), { code: 'ERR_CORRUPT', file: 'config' }, name)
  }
  const made = new MemoryRepository()
  made.backend.put({ type: 'config', name: '' }, made.seal(json({ version: 3 })))
  await t.rejects(made.open(), { code: 'ERR_UNSUPPORTED' }, 'a format of later')
})

t.test('a config sealed by the keys of another repository does not open', async t => {
  const [a, b] = [new MemoryRepository(), new MemoryRepository()]
  a.backend.put({ type: 'config', name: '' }, b.backend.files.get('config/')!)
  await t.rejects(a.open(), { code: 'ERR_CORRUPT', file: 'config' })
})

t.test('faults of the backend are passed on', async t => {
  const made = new MemoryRepository()
  const open = (backend: FaultyBackend, signal?: AbortSignal) => openRepository(backend, Buffer.from(PASSWORD), { signal })
  for (const fault of [{ type: 'config' }, { type: 'keys', operation: 'list' }, { type: 'keys', operation: 'readAll' }] as const) {
    await t.rejects(open(new FaultyBackend(made.backend, [{ ...fault, kind: 'fail' }])), { code: 'ERR_UNREACHABLE' }, JSON.stringify(fault))
  }
  const abort = new AbortController()
  const opening = open(new FaultyBackend(made.backend, [{ kind: 'stall' }]), abort.signal)
  abort.abort()
  await t.rejects(opening, { code: 'ERR_ABORTED' }, 'a backend that never answers can be left')
})

t.test('what can be had without the key is read beside it', async t => {
  const made = new MemoryRepository()
  const snapshot = made.addSnapshot()
  const index = made.addIndex([])
  const backend = new FaultyBackend(made.backend)
  const prefetch = new Prefetch(backend)
  await prefetch.finished
  t.strictSame(backend.calls.filter(call => call.startsWith('list')), ['list keys/', 'list snapshots/', 'list index/'], 'snapshots are listed before the index')
  const repository = await openRepository(backend, Buffer.from(PASSWORD), { prefetch })
  const before = backend.calls.length
  t.equal((await repository.loadSnapshot(snapshot)).id, snapshot)
  t.equal((await repository.loadUnpacked('index', index)).toString(), '{"packs":[]}')
  t.strictSame(backend.calls.slice(before), [], 'and not read again')
  await repository.loadSnapshot(snapshot)
  t.strictSame(backend.calls.slice(before), [`readAll snapshots/${snapshot}`], 'it is used once')
  t.match(await prefetch.takeList('snapshots'), [{ name: snapshot }])
  t.match(await prefetch.takeList('index'), [{ name: index }])
  t.equal(await prefetch.takeList('index'), null, 'lists as well')
})

t.test('prefetch stays within its bounds, and keeps the order of lists', async t => {
  const made = new MemoryRepository()
  const snapshots = [made.addSnapshot(), made.addSnapshot({ hostname: 'other' })]
  const sizes = snapshots.map(name => made.backend.files.get(`snapshots/${name}`)!.length)
  const read = async (options: ConstructorParameters<typeof Prefetch>[1]) => {
    const backend = new FaultyBackend(made.backend)
    await new Prefetch(backend, options).finished
    return backend.calls.filter(call => call.startsWith('readAll snapshots'))
  }
  t.equal((await read({ maxBytes: Math.max(...sizes) })).length, 1, 'bytes')
  t.strictSame(await read({ wanted: ({ name }) => name === snapshots[1] }), [`readAll snapshots/${snapshots[1]}`], 'what is wanted')
  const prefetch = new Prefetch(made.backend)
  await prefetch.takeList('snapshots')
  t.equal(await prefetch.takeList('snapshots'), null)
  t.equal(await prefetch.takeList('index'), null, 'who lists snapshots anew does not get an older list of index files')
  const failing = new Prefetch(new FaultyBackend(made.backend, [{ operation: 'list', kind: 'fail' }]))
  t.equal(await failing.takeList('snapshots'), null, 'a list that failed is asked for again by who needs it')
})

t.test('files are checked against name, MAC and form', async t => {
  const made = new MemoryRepository()
  const good = made.addSnapshot()
  const flipped = made.addSnapshot({ hostname: 'flipped' })
  made.damage('snapshots', flipped, bytes => { bytes[40] ^= 1; return bytes })
  const foreign = made.put('snapshots', new MemoryRepository().seal(json({})))
  const noJson = made.put('snapshots', made.seal(Buffer.from([7, 1, 2])))
  const empty = made.put('index', made.seal(Buffer.alloc(0)))
  const repository = await made.open()
  t.equal((await repository.loadSnapshot(good)).hostname, 'host')
  for (const [type, name, reason] of [
    ['snapshots', flipped, 'content does not match the name'], ['snapshots', foreign, 'MAC does not fit'], ['snapshots', noJson, 'unknown encoding 7'], ['index', empty, 'empty'],
  ] as const) await t.rejects(repository.loadUnpacked(type, name), { code: 'ERR_CORRUPT', reason })
  await t.rejects(repository.loadUnpacked('index', good), { code: 'ERR_NOT_FOUND' })
})

t.test('a fault on the way is overcome by reading again, twice', async t => {
  const made = new MemoryRepository()
  const name = made.addSnapshot()
  for (const kind of ['flip', 'short'] as const) {
    const backend = new FaultyBackend(made.backend)
    const repository = await openRepository(backend, Buffer.from(PASSWORD), { prefetch: new Prefetch(backend, { maxBytes: 0 }) })
    for (const times of [1, 2]) {
      backend.faults = [{ type: 'snapshots', operation: 'readAll', times, kind }]
      t.equal((await repository.loadSnapshot(name)).id, name, `${kind}, ${times} times`)
    }
    backend.faults = [{ type: 'snapshots', operation: 'readAll', times: 3, kind }]
    await t.rejects(repository.loadSnapshot(name), { code: 'ERR_CORRUPT' }, `${kind}, three times`)
  }
})

t.test('pack headers', async t => {
  const made = new MemoryRepository()
  const few = made.addPack([{ type: 'tree', plain: Buffer.from('a') }, { type: 'data', plain: Buffer.alloc(0) }])
  const many = made.addPack(Array.from({ length: 100 }, (_, i) => ({ type: 'data' as const, plain: Buffer.from(`blob ${i}`) })))
  const repository = await made.open()
  for (const pack of [few, many]) {
    const size = made.backend.files.get(`data/${pack.name}`)!.length
    const entries = await repository.loadPackHeader(pack.name, size)
    t.strictSame(entries.map(({ id, ...rest }) => ({ ...rest, id: id.toString('hex') })),
      pack.blobs.map(({ id, type, offset, length }) => ({ type, offset, length, plainLength: 0, id: id.toString('hex') })), `${pack.blobs.length} blobs`)
    for (const wrong of [size - 1, size - 4, 10, 0]) await t.rejects(repository.loadPackHeader(pack.name, wrong), { code: 'ERR_CORRUPT' }, `cut to ${wrong}`)
    await t.rejects(repository.loadPackHeader(pack.name, size + 1), { code: 'ERR_CORRUPT' }, 'shorter than said')
  }
})
