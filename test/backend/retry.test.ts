import t from 'tap'
import { BandwidthLimit } from '../../src/backend/bandwidth.js'
import type { ReadBackend } from '../../src/backend/backend.js'
import { ConnectionLimit } from '../../src/backend/connection-limit.js'
import { MemoryBackend } from '../../src/backend/memory.js'
import { RetryBackend } from '../../src/backend/retry.js'
import { AccessError, CorruptError, DaybookError } from '../../src/errors.js'
import { randomBytes } from '../fixtures/bytes.js'
import { FaultyBackend, type Fault } from '../fixtures/faulty-backend.js'

const PACK = { type: 'data', name: 'cd'.repeat(32) } as const
const DATA = randomBytes('retry', 1 << 20)

function faulty(faults: Fault[]): FaultyBackend {
  const memory = new MemoryBackend()
  memory.put(PACK, DATA)
  return new FaultyBackend(memory, faults)
}
const since = (started: number) => performance.now() - started
const unreachable = (code: string) => new DaybookError('ERR_UNREACHABLE', 'down', undefined, { cause: Object.assign(new Error(code), { code }) })

t.test('what passes is tried again, until it is right', async t => {
  const backend = faulty([{ kind: 'fail', times: 3 }])
  const bytes = await new RetryBackend(backend, { timeoutMs: 60_000, random: () => 0 }).read(PACK, 5, 10)
  t.ok(bytes.equals(DATA.subarray(5, 15)))
  t.equal(backend.calls.length, 4)
})

t.test('what will not pass is not', async t => {
  for (const error of [new AccessError('x', 'y'), new CorruptError('x', 'y'), new DaybookError('ERR_USAGE', 'x'), new TypeError('x')]) {
    const backend = faulty([{ kind: 'fail', error }])
    await t.rejects(new RetryBackend(backend, { timeoutMs: 60_000 }).read(PACK, 0, 1), error)
    t.equal(backend.calls.length, 1)
  }
})

t.test('a remote that fails is given up after the time set, with its own words', async t => {
  const backend = faulty([{ kind: 'fail', error: unreachable('ECONNRESET') }])
  const started = performance.now()
  await t.rejects(new RetryBackend(backend, { timeoutMs: 1200, random: () => 0 }).read(PACK, 0, 1), { code: 'ERR_UNREACHABLE', message: 'down' })
  t.ok(since(started) > 300, `${Math.round(since(started))} ms`)
  t.ok(backend.calls.length > 1 && backend.calls.length < 6, `${backend.calls.length} tries`)
})

t.test('its health: down from the first request that is not answered to the first that is, whatever the answer', async t => {
  const backend = faulty([{ kind: 'fail', error: unreachable('ECONNRESET') }])
  const retry = new RetryBackend(backend, { timeoutMs: 300, random: () => 0 })
  t.match(retry.health(), [{ state: 'up', sinceMs: null, lastError: null, answers: 0, failures: 0 }])
  const before = Date.now()
  await t.rejects(retry.read(PACK, 0, 1), { message: 'down' })
  const [{ state, sinceMs, lastError }] = retry.health()
  t.equal(state, 'down')
  t.ok(sinceMs! >= before && sinceMs! <= lastError!.timeMs)
  t.equal(lastError!.message, 'down')
  await t.rejects(retry.read(PACK, 0, 1), { message: 'down' })
  t.equal(retry.health()[0].sinceMs, sinceMs, 'since the first one')
  backend.faults = []
  await t.rejects(retry.stat({ type: 'data', name: 'ab'.repeat(32) }), { code: 'ERR_NOT_FOUND' })
  t.match(retry.health(), [{ state: 'up', sinceMs: null, lastError: { message: 'down' }, answers: 1 }], 'a file that is not there is an answer')
})

t.test('pauses double, up to a bound, and differ at random', async t => {
  const times: number[] = []
  const inner = new Proxy(faulty([]), { get: (target, key) => key === 'stat' ? async () => { times.push(performance.now()); throw unreachable('ECONNRESET') } : Reflect.get(target, key, target) as unknown }) as ReadBackend
  await t.rejects(new RetryBackend(inner, { timeoutMs: 1500, random: () => 1 }).stat(PACK))
  const pauses = times.slice(1).map((time, i) => time - times[i])
  t.ok(pauses.length > 1 && pauses.every((pause, i) => pause > 250 * 2 ** i - 5), pauses.map(Math.round).join(' '))
})

t.test('when the server was back, those it had refused slept on', async t => {
  let down = false
  const inner = new Proxy(faulty([]), { get: (target, key) => key === 'stat' ? async () => {
    if (down) throw unreachable('ECONNREFUSED')
    return { name: PACK.name, size: DATA.length }
  } : Reflect.get(target, key, target) as unknown }) as ReadBackend
  const backend = new RetryBackend(inner, { timeoutMs: 60_000, random: () => 1 })
  await backend.stat(PACK)
  down = true
  const started = performance.now()
  // The fourth pause is of two seconds, the fifth of four.
  const early = backend.stat(PACK)
  await new Promise(resolve => setTimeout(resolve, 1900))
  down = false
  await backend.stat(PACK)
  await early
  t.ok(since(started) < 3000, `${Math.round(since(started))} ms`)
})

t.test('where nothing ever answered, a refusal is believed sooner', async t => {
  const started = performance.now()
  await t.rejects(new RetryBackend(faulty([{ kind: 'fail', error: unreachable('ENOTFOUND') }]), { timeoutMs: 60_000, random: () => 0 }).read(PACK, 0, 1), { message: 'down' })
  t.ok(since(started) < 20_000, `${Math.round(since(started))} ms`)
})

t.test('a silent remote is given up after the time set, also by who waits for a turn', async t => {
  const retry = new RetryBackend(new ConnectionLimit(faulty([{ kind: 'stall' }])), { timeoutMs: 600 })
  const started = performance.now()
  const errors = await Promise.all(Array.from({ length: 20 }, () => retry.read(PACK, 0, 1).then(() => null, (error: Error) => error)))
  t.ok(since(started) > 500, `${Math.round(since(started))} ms`)
  for (const error of errors) t.match(error, { code: 'ERR_UNREACHABLE', retryable: true })
})

t.test('a remote that was given up is not waited for as long again, until it answers', async t => {
  const backend = faulty([{ kind: 'stall', times: 10 }])
  const retry = new RetryBackend(backend, { timeoutMs: 3000 })
  const asked = async () => {
    const started = performance.now()
    await t.rejects(retry.read(PACK, 0, 1), { code: 'ERR_UNREACHABLE' })
    return since(started)
  }
  const [first, second] = [await asked(), await asked()]
  t.ok(first > 2500, `${Math.round(first)} ms`)
  t.ok(second < first, `${Math.round(second)} ms`)
  backend.faults = []
  await retry.read(PACK, 0, 1)
  backend.faults = [{ kind: 'stall' }]
  t.ok(await asked() > 2500)
})

t.test('a process that stood still took the remote for silent', async t => {
  const inner = new Proxy(faulty([]), { get: (target, key) => key === 'stat' ? () => new Promise(resolve => setTimeout(resolve, 2100, { name: PACK.name, size: 1 })) : Reflect.get(target, key, target) as unknown }) as ReadBackend
  const asked = new RetryBackend(inner, { timeoutMs: 600 }).stat(PACK)
  await new Promise(setImmediate)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000)
  t.match(await asked, { size: 1 })
})

t.test('nobody is given up while something comes', async t => {
  const memory = faulty([])
  // Slow, but alive: 20 pieces in a second, each read longer than the time set.
  const slow = new Proxy(memory, {
    get: (target, key) => key === 'read' ? async (...args: Parameters<ReadBackend['read']>) => {
      for (let i = 0; i < 20; i++) {
        await new Promise(resolve => setTimeout(resolve, 50))
        args[3]?.alive?.()
      }
      return target.read(...args)
    } : Reflect.get(target, key, target) as unknown,
  }) as ReadBackend
  const retry = new RetryBackend(new ConnectionLimit(slow), { timeoutMs: 300 })
  const reads = await Promise.all(Array.from({ length: 12 }, () => retry.read(PACK, 0, 100)))
  t.ok(reads.every(bytes => bytes.equals(DATA.subarray(0, 100))))
})

t.test('who gives up is answered at once: while trying, between tries, and while waiting for a turn', async t => {
  for (const kind of ['stall', 'fail'] as const) {
    const retry = new RetryBackend(new ConnectionLimit(faulty([{ kind }])), { timeoutMs: 60_000 })
    const controller = new AbortController()
    const reads = Array.from({ length: 9 }, () => retry.read(PACK, 0, 1, { signal: controller.signal }).then(() => null, (error: Error) => error))
    await new Promise(resolve => setTimeout(resolve, 50))
    const started = performance.now()
    controller.abort()
    for (const error of await Promise.all(reads)) t.match(error, { code: 'ERR_ABORTED' }, kind)
    t.ok(since(started) < 100, `${Math.round(since(started))} ms`)
  }
})

t.test('when it is closed, nothing is tried any more', async t => {
  for (const kind of ['stall', 'fail'] as const) {
    const backend = faulty([{ kind }])
    const retry = new RetryBackend(new ConnectionLimit(backend), { timeoutMs: 60_000 })
    const reads = Array.from({ length: 9 }, () => t.rejects(retry.read(PACK, 0, 1), { code: 'ERR_ABORTED' }, kind))
    await new Promise(resolve => setTimeout(resolve, 20))
    await retry.close()
    await Promise.all(reads)
    const { length } = backend.calls
    await t.rejects(retry.read(PACK, 0, 1), { code: 'ERR_ABORTED' })
    t.equal(backend.calls.length, length)
  }
})

t.test('without a time set, nothing is given up', async t => {
  const backend = faulty([{ kind: 'fail', times: 2 }])
  t.ok((await new RetryBackend(backend, { timeoutMs: Infinity, random: () => 0 }).read(PACK, 0, 1)).equals(DATA.subarray(0, 1)))
})

t.test('an outage is told once, and its end', async t => {
  const said: string[] = []
  const log = { debug() {}, info: (line: string) => said.push(line), warn: (line: string) => said.push(line), error() {} }
  const backend = faulty([{ kind: 'fail', times: 3, error: unreachable('ECONNRESET') }])
  const retry = new RetryBackend(backend, { timeoutMs: 60_000, random: () => 0, log })
  await retry.read(PACK, 0, 1)
  await retry.read(PACK, 0, 1)
  t.strictSame(said, ['down; trying again for 60 s', 'memory answers again'])
})

t.test('no more requests at once than connections, in order, whatever becomes of them', async t => {
  let running = 0, most = 0
  const order: number[] = []
  const inner = new Proxy(faulty([]), {
    get: (target, key) => key === 'read' ? async (_: unknown, offset: number) => {
      order.push(offset)
      most = Math.max(most, ++running)
      await new Promise(resolve => setTimeout(resolve, 5))
      running--
      if (offset % 3 === 0) throw unreachable('ECONNRESET')
      return Buffer.alloc(0)
    } : Reflect.get(target, key, target) as unknown,
  }) as ReadBackend
  const limit = new ConnectionLimit(inner)
  const gone = AbortSignal.timeout(8)
  const reads = Array.from({ length: 40 }, (_, i) => limit.read(PACK, i, 1, i === 20 ? { signal: gone } : {}).then(() => 'ok', (error: DaybookError) => error.code))
  const outcomes = await Promise.all(reads)
  t.equal(most, inner.connections)
  t.strictSame(order, [...order].sort((a, b) => a - b))
  t.notOk(order.includes(20))
  t.equal(outcomes[20], 'ERR_ABORTED')
  t.equal(outcomes.filter(outcome => outcome === 'ok').length, 25)
})

t.test('a limit of the bandwidth is kept, however it is asked for', async t => {
  const rate = 1024 // KiB/s
  for (const [name, ask] of Object.entries<(backend: ReadBackend) => Promise<unknown>>({
    'one large range': backend => backend.read(PACK, 0, 1 << 20),
    'many small ones': backend => Promise.all(Array.from({ length: 64 }, (_, i) => backend.read(PACK, i << 14, 1 << 14))),
    'whole files': backend => backend.readAll(PACK, 1 << 20),
  })) {
    const limited = new BandwidthLimit(faulty([]), rate)
    const started = performance.now()
    // A second of it is free, then 1 MiB takes one each.
    await ask(limited)
    await ask(limited)
    t.ok(since(started) > 900, `${name}: ${Math.round(since(started))} ms`)
  }
  const controller = new AbortController()
  const limited = new BandwidthLimit(faulty([]), 1)
  const reading = t.rejects(limited.read(PACK, 0, 1 << 20, { signal: controller.signal }), { code: 'ERR_ABORTED' })
  setTimeout(() => controller.abort(), 20)
  await reading
  const narrow = new BandwidthLimit(faulty([]), 512)
  const into = Buffer.alloc(1 << 20)
  t.ok((await narrow.read(PACK, 0, 1 << 20, { into })).equals(DATA), 'pieces are put together')
  t.ok(into.equals(DATA), 'in the memory that was offered')
})
