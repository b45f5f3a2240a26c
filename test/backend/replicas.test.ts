import t, { type Test } from 'tap'
import type { Handle, ReadBackend } from '../../src/backend/backend.js'
import { ConnectionLimit } from '../../src/backend/connection-limit.js'
import { MemoryBackend } from '../../src/backend/memory.js'
import { ReplicaBackend, type ReplicaBackendOptions } from '../../src/backend/replicas.js'
import { RetryBackend } from '../../src/backend/retry.js'
import { AccessError, CorruptError, DaybookError } from '../../src/errors.js'
import type { Logger } from '../../src/util/log.js'
import { randomBytes } from '../fixtures/bytes.js'
import { FaultyBackend, type Fault } from '../fixtures/faulty-backend.js'
import { eventually } from '../fixtures/run.js'

const PACK = { type: 'data', name: 'cd'.repeat(32) } as const
const CONFIG = { type: 'config', name: '' } as const
const DATA = randomBytes('replicas', 1 << 20)
const STORED_CONFIG = randomBytes('config', 155)
const idOf = (digits: string) => digits.repeat(32)

/** Locations a, b, ... which all hold the same, and go wrong as they are told. */
class Locations {
  readonly memories: MemoryBackend[]
  readonly faulty: FaultyBackend[]
  readonly replicas: ReplicaBackend
  readonly said: string[] = []
  readonly log: Logger = { debug() {}, info: line => { this.said.push(line) }, warn: line => { this.said.push(line) }, error: line => { this.said.push(line) } }

  constructor(t: Test, faults: Fault[][], options: ReplicaBackendOptions = {}, wrap = (inner: ReadBackend, _n: number): ReadBackend => inner) {
    this.memories = faults.map(() => new MemoryBackend())
    for (const memory of this.memories) {
      memory.put(PACK, DATA)
      memory.put(CONFIG, STORED_CONFIG)
    }
    this.faulty = this.memories.map((memory, n) => new FaultyBackend(new Proxy(memory, { get: (target, key) => key === 'location' ? 'abc'[n] : bound(target, key) }), faults[n]))
    this.replicas = new ReplicaBackend(this.faulty.map(wrap), { log: this.log, probeMs: 20, ...options })
    t.teardown(() => this.replicas.close())
  }

  put(handle: Handle, bytes: Buffer, ...places: number[]): void { for (const n of places) this.memories[n].put(handle, bytes) }
  /** reads of packs at each location */
  get reads(): number[] { return this.faulty.map(({ calls }) => calls.filter(call => call.startsWith('read ')).length) }
  get states(): string { return this.replicas.health().map(({ state }) => state).join(' ') }
}

function bound(target: object, key: string | symbol): unknown {
  const value = Reflect.get(target, key, target) as unknown
  return typeof value === 'function' ? value.bind(target) : value
}

const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))
const since = (started: number) => performance.now() - started
const right = (bytes: Buffer, offset = 0) => bytes.equals(DATA.subarray(offset, offset + bytes.length))
const refused = () => new DaybookError('ERR_UNREACHABLE', 'a refuses', undefined, { cause: Object.assign(new Error(), { code: 'ECONNREFUSED' }) })
/** slow, until told to stop */
const slowly = (ms: () => number) => (inner: ReadBackend, n: number): ReadBackend => n > 0 ? inner : new Proxy(inner, {
  get: (target, key) => key === 'read' ? async (...args: Parameters<ReadBackend['read']>) => {
    await pause(ms())
    return target.read(...args)
  } : bound(target, key),
})

t.test('the preferred location alone is asked, as long as all is well', async t => {
  const at = new Locations(t, [[], [], []])
  for (let i = 0; i < 50; i++) t.ok(right(await at.replicas.read(PACK, i, 100), i))
  await at.replicas.readAll(PACK, DATA.length)
  await at.replicas.stat(PACK)
  await at.replicas.list('data')
  t.strictSame(at.faulty.slice(1).map(({ calls }) => calls), [[], []])
  t.equal(at.replicas.sources, 3)
})

t.test('what fails is answered by the next at once, whatever way it fails', async t => {
  for (const error of [undefined, refused(), new AccessError('x', 'y'), new CorruptError('x', 'truncated'), new TypeError('x')]) {
    const at = new Locations(t, [[{ kind: 'fail', error }], [{ kind: 'fail', error }], []])
    const started = performance.now()
    t.ok(right(await at.replicas.read(PACK, 5, 10), 5))
    t.ok((await at.replicas.readAll(PACK, DATA.length)).equals(DATA))
    t.equal((await at.replicas.stat(PACK)).size, DATA.length)
    t.ok(since(started) < 1000)
  }
})

t.test('a location that fails is left alone and probed, and is in use again when it answers', async t => {
  const at = new Locations(t, [[{ kind: 'fail' }], []])
  for (let i = 0; i < 20; i++) t.ok(right(await at.replicas.read(PACK, i, 1000), i))
  t.equal(at.states, 'down up')
  t.equal(at.reads[0], 3, 'not asked any more after three failures')
  await eventually('it is probed', () => at.faulty[0].calls.filter(call => call === 'readAll config/').length > 2)
  at.faulty[0].faults = []
  await eventually('it is in use', () => at.states === 'up up')
  const [before] = at.reads
  await at.replicas.read(PACK, 0, 10)
  t.equal(at.reads[0], before + 1)
  t.strictSame(at.said.map(line => line.replace(/.*; /, '')), ['this location is left alone until it answers again', 'a is in use again'], 'the outage is told once, and its end')
})

t.test('probes come more and more rarely', async t => {
  const at = new Locations(t, [[{ kind: 'fail' }], []], { probeMs: 20 })
  for (let i = 0; i < 3; i++) await at.replicas.read(PACK, 0, 1)
  await pause(600)
  const probes = at.faulty[0].calls.filter(call => call === 'readAll config/').length
  t.ok(probes >= 3 && probes <= 7, `${probes} probes in 600 ms`)
})

t.test('one that refuses connections is down at once', async t => {
  const at = new Locations(t, [[{ kind: 'fail', error: refused() }], []])
  await at.replicas.read(PACK, 0, 1)
  t.equal(at.states, 'down up')
})

t.test('a slow read is sent to the next as well, the first good answer counts, and the other is ended', async t => {
  const at = new Locations(t, [[], []], {}, slowly(() => 5))
  for (let i = 0; i < 30; i++) await at.replicas.read(PACK, 0, 1000)
  t.equal(at.reads[1], 0, 'none was slow')
  at.faulty[0].faults = [{ kind: 'stall', times: 1 }]
  const started = performance.now()
  t.ok(right(await at.replicas.read(PACK, 7, 1000), 7))
  t.ok(since(started) >= 45 && since(started) < 400, `${Math.round(since(started))} ms`)
  t.strictSame(at.reads, [31, 1])
  t.equal(at.states, 'up up', 'once slow is not down')
  t.equal(at.replicas.health()[0].overtaken, 1)
})

t.test('at most one extra request per read', async t => {
  const at = new Locations(t, [[{ kind: 'stall' }], [{ kind: 'stall' }], []], { leastHedgeMs: 20 })
  const controller = new AbortController()
  const reading = at.replicas.read(PACK, 0, 1, { signal: controller.signal })
  await pause(1500)
  t.strictSame(at.reads, [1, 1, 0])
  controller.abort()
  await t.rejects(reading, { code: 'ERR_ABORTED' })
})

t.test('the share of extra requests is bounded', async t => {
  let ms = 1
  const at = new Locations(t, [[], []], { leastHedgeMs: 10 }, slowly(() => ms))
  for (let i = 0; i < 40; i++) await at.replicas.read(PACK, 0, 1000)
  ms = 25 // from now on slower than nearly all before: an overload
  for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 10 }, () => at.replicas.read(PACK, 0, 1000)))
  t.ok(at.reads[1] <= 5 + 0.05 * 140 + 1, `${at.reads[1]} of 140 sent twice`)
  t.ok(at.reads[1] > 0)
})

t.test('hedging follows what the location is used to: one that is always slow is not hedged', async t => {
  const at = new Locations(t, [[], []], { leastHedgeMs: 5 }, slowly(() => 30))
  await Promise.all(Array.from({ length: 40 }, () => at.replicas.read(PACK, 0, 1000)))
  const [, before] = at.reads
  for (let i = 0; i < 20; i++) await at.replicas.read(PACK, 0, 1000)
  t.ok(at.reads[1] - before <= 5, `${at.reads[1] - before} of 20`)
})

t.test('a location that hangs is given up, by all who wait, and then left alone', async t => {
  const at = new Locations(t, [[{ kind: 'stall' }], []], { silentMs: 600 })
  const started = performance.now()
  const reads = await Promise.all(Array.from({ length: 40 }, (_, i) => at.replicas.read(PACK, i, 100)))
  t.ok(reads.every((bytes, i) => right(bytes, i)))
  t.ok(since(started) < 3000, `${Math.round(since(started))} ms`)
  t.match(at.states, /^down/)
  const later = performance.now()
  await at.replicas.read(PACK, 0, 100)
  t.ok(since(later) < 100)
})

t.test('bytes that proved wrong come from each further source, and the damage is told once per file', async t => {
  const at = new Locations(t, [[{ kind: 'flip' }], [{ kind: 'flip' }], []])
  for (const offset of [0, 1000, 5000]) {
    t.notOk(right(await at.replicas.read(PACK, offset, 1000), offset))
    t.notOk(right(await at.replicas.read(PACK, offset, 1000, { again: 1 }), offset))
    t.ok(right(await at.replicas.read(PACK, offset, 1000, { again: 2 }), offset))
  }
  t.strictSame(at.said, ['a', 'b'].map(place => `pack ${PACK.name} is damaged at ${place}: its bytes are wrong`))
  t.strictSame(at.replicas.health().map(({ damaged }) => damaged), [1, 1, 0])
})

t.test('again: not from those that gave the wrong bytes, whoever that was', async t => {
  const at = new Locations(t, [[{ kind: 'fail', times: 1 }], [{ kind: 'flip' }], []])
  t.notOk(right(await at.replicas.read(PACK, 0, 1 << 16)), 'a failed, b answered')
  t.ok(right(await at.replicas.read(PACK, 100, 1000, { again: 1 }), 100), 'a part of it')
  t.strictSame(at.reads, [2, 1, 0], 'from a, which was not wrong')
  t.match(at.said, [/is damaged at b/])
})

t.test('again: while the one that may have them fails, it is an outage, that may pass', async t => {
  const at = new Locations(t, [[{ kind: 'flip' }], [{ kind: 'fail', times: 2 }]])
  t.notOk(right(await at.replicas.read(PACK, 0, 1000)))
  await t.rejects(at.replicas.read(PACK, 0, 1000, { again: 1 }), { code: 'ERR_CORRUPT', retryable: true })
  const retrying = new RetryBackend(at.replicas, { timeoutMs: 5000, random: () => 0 })
  t.ok(right(await retrying.read(PACK, 0, 1000, { again: 1 })))
})

t.test('a file that ends too early or is not there is read from the next', async t => {
  const at = new Locations(t, [[], []])
  at.put(PACK, DATA.subarray(0, 100), 0)
  t.ok(right(await at.replicas.read(PACK, 50, 100), 50))
  t.ok(right(await at.replicas.read(PACK, 0, 100)), 'what is there of it')
  t.match(at.said, [/is damaged at a: truncated/])
  at.memories[0].remove(PACK)
  t.ok(right(await at.replicas.read(PACK, 50, 100), 50))
  t.equal(at.states, 'up up')
  t.equal(at.replicas.health()[0].missing, 1)
})

t.test('not found is what the first location says, and the others', async t => {
  const none = { type: 'data', name: idOf('ee') } as const
  await t.rejects(new Locations(t, [[], []]).replicas.read(none, 0, 1), { code: 'ERR_NOT_FOUND' })
  const down: Fault = { kind: 'fail', error: refused() }
  await t.rejects(new Locations(t, [[], [down]]).replicas.read(none, 0, 1), { code: 'ERR_NOT_FOUND' }, 'not waiting for a replica that is down')
  await t.rejects(new Locations(t, [[], [{ kind: 'fail' }]]).replicas.read(none, 0, 1), { code: 'ERR_UNREACHABLE' }, 'one that failed just now may have it')
  await t.rejects(new Locations(t, [[down], []]).replicas.read(none, 0, 1), { code: 'ERR_UNREACHABLE' }, 'a replica may lag behind')
})

t.test('with all down, the error names all, and the first that comes back answers', async t => {
  const at = new Locations(t, [[{ kind: 'fail', error: refused() }], [{ kind: 'fail', error: new DaybookError('ERR_UNREACHABLE', 'b is silent') }]])
  for (let i = 0; i < 4; i++) await t.rejects(at.replicas.read(PACK, 0, 1), { code: 'ERR_UNREACHABLE', message: 'a refuses; b is silent', retryable: true })
  t.equal(at.states, 'down down')
  at.faulty[1].faults = []
  t.ok(right(await at.replicas.read(PACK, 0, 1)), 'without waiting for a probe')
  t.equal(at.states, 'down up')
})

t.test('with all down, who retries around it waits as long as it is told to', async t => {
  const at = new Locations(t, [[{ kind: 'stall' }], [{ kind: 'fail' }]], { silentMs: 100 })
  const started = performance.now()
  await t.rejects(new RetryBackend(at.replicas, { timeoutMs: 800 }).read(PACK, 0, 1), { code: 'ERR_UNREACHABLE' })
  t.ok(since(started) > 300 && since(started) < 2000, `${Math.round(since(started))} ms`)
})

t.test('who gives up is answered at once, and all requests end', async t => {
  const ended: number[] = []
  const at = new Locations(t, [[{ kind: 'stall' }], [{ kind: 'stall' }]], { leastHedgeMs: 10 }, (inner, n) => new Proxy(inner, {
    get: (target, key) => key === 'read' ? (...args: Parameters<ReadBackend['read']>) => {
      args[3]?.signal?.addEventListener('abort', () => ended.push(n))
      return target.read(...args)
    } : bound(target, key),
  }))
  const controller = new AbortController()
  const reading = at.replicas.read(PACK, 0, 1, { signal: controller.signal })
  await pause(1200)
  const started = performance.now()
  controller.abort()
  await t.rejects(reading, { code: 'ERR_ABORTED' })
  t.ok(since(started) < 50)
  t.strictSame(ended.sort(), [0, 1])
  t.equal(at.replicas.health()[0].failures, 0, 'that says nothing about the locations')
})

t.test('memory that is offered goes to one request only', async t => {
  const offered: boolean[] = []
  const at = new Locations(t, [[{ kind: 'stall' }], []], { leastHedgeMs: 10 }, (inner, n) => new Proxy(inner, {
    get: (target, key) => key === 'read' ? (...args: Parameters<ReadBackend['read']>) => {
      offered[n] = args[3]?.into !== undefined
      return target.read(...args)
    } : bound(target, key),
  }))
  t.ok(right(await at.replicas.read(PACK, 0, 1000, { into: Buffer.alloc(1000) })))
  t.strictSame(offered, [true, false])
})

t.test('lists: the first location says what there is; while it is down, all others together, and that is partial', async t => {
  const at = new Locations(t, [[], [], []])
  const put = (digits: string, ...places: number[]) => at.put({ type: 'snapshots', name: idOf(digits) }, Buffer.from(digits), ...places)
  put('aa', 0, 1, 2)
  put('bb', 0) // not copied yet
  put('cc', 1) // forgotten in the first
  put('dd', 0, 2)
  let partial = 0
  const list = async () => (await at.replicas.list('snapshots', { partial: () => { partial++ } })).map(({ name }) => name.slice(0, 2)).sort().join(' ')
  t.equal(await list(), 'aa bb dd')
  t.equal(partial, 0)
  at.faulty[0].faults = [{ kind: 'fail' }]
  t.equal(await list(), 'aa cc dd')
  t.equal(partial, 1)
  at.faulty[1].faults = [{ kind: 'fail' }]
  t.equal(await list(), 'aa dd')
  at.faulty[2].faults = [{ kind: 'fail' }]
  await t.rejects(list(), { code: 'ERR_UNREACHABLE' })
  t.equal(partial, 2)
  at.faulty[0].faults = []
  t.equal(await list(), 'aa bb dd')
  t.equal(partial, 2)
})

t.test('an empty folder without a config is a disk that is not mounted', async t => {
  const at = new Locations(t, [[], []])
  at.put({ type: 'snapshots', name: idOf('aa') }, Buffer.alloc(1), 1)
  let partial = false
  t.strictSame(await at.replicas.list('snapshots', { partial: () => { partial = true } }), [], 'empty, with a config')
  at.memories[0].files.clear()
  t.equal((await at.replicas.list('snapshots', { partial: () => { partial = true } })).length, 1)
  t.ok(partial)
})

t.test('a location that holds another repository is not used', async t => {
  const at = new Locations(t, [[], [{ kind: 'fail' }], []])
  at.put(CONFIG, randomBytes('another', 155), 1)
  at.put(CONFIG, randomBytes('another', 155), 2)
  at.replicas.check(async config => config.equals(STORED_CONFIG))
  await eventually('c is refused', () => at.states.endsWith('refused'))
  at.faulty[1].faults = []
  await eventually('b is refused as soon as it answers', () => at.states === 'up refused refused')
  t.equal(at.said.filter(line => /holds another repository/.test(line)).length, 2)
  at.faulty[0].faults = [{ kind: 'fail' }]
  for (let i = 0; i < 5; i++) await t.rejects(at.replicas.read(PACK, 0, 1), { code: 'ERR_UNREACHABLE' })
  await t.rejects(at.replicas.list('data'), { code: 'ERR_UNREACHABLE' })
  t.strictSame(at.reads.slice(1), [0, 0])
})

t.test('groups of ranges go to the first location; when it fails they are read one by one', async t => {
  const ranges = [{ handle: PACK, offset: 0, length: 10, at: 0 }]
  const withRanges = (readRanges: ReadBackend['readRanges']) => new Locations(t, [[], []], { silentMs: 100 }, (inner, n) => n > 0 ? inner : new Proxy(inner, {
    get: (target, key) => key === 'readRanges' ? readRanges : bound(target, key),
  }))
  t.equal(new Locations(t, [[], []]).replicas.readRanges, undefined)
  t.strictSame(await withRanges(async () => [1]).replicas.readRanges!(ranges, Buffer.alloc(10)), [1])
  const hanging = withRanges(() => new Promise(() => {}))
  for (let i = 0; i < 3; i++) await t.rejects(hanging.replicas.readRanges!(ranges, Buffer.alloc(10)), { code: 'ERR_UNREACHABLE' })
  t.equal(hanging.states, 'down up')
  t.strictSame(await hanging.replicas.readRanges!(ranges, Buffer.alloc(10)), [])
})

t.test('as it is put together: right bytes, whatever happens to one location after the other', async t => {
  const at = new Locations(t, [[], [], []], { silentMs: 100, leastHedgeMs: 20 }, inner => new ConnectionLimit(inner))
  const retrying = new RetryBackend(at.replicas, { timeoutMs: 20_000, random: () => 0 })
  const kinds = ['fail', 'stall'] as const
  let done = false
  const trouble = (async () => {
    for (let n = 0; !done; n++) {
      at.faulty.forEach((faulty, i) => { faulty.faults = i === n % 3 ? [] : [{ kind: kinds[(n + i) % kinds.length] }] })
      await pause(400)
    }
  })()
  for (let round = 0; round < 60; round++) {
    const offsets = Array.from({ length: 20 }, (_, i) => (round * 20 + i) * 800)
    const reads = await Promise.all(offsets.map(offset => retrying.read(PACK, offset, 5000)))
    t.ok(reads.every((bytes, i) => right(bytes, offsets[i])), `round ${round}`)
    await pause(50)
  }
  done = true
  await trouble
})
