import t from 'tap'
import { raceAbort, throwIfAborted } from '../../src/util/abort.js'
import { Budget, forEachLimited } from '../../src/util/concurrency.js'
import { SharedRun } from '../../src/util/single-flight.js'

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

t.test('forEachLimited', async t => {
  for (const limit of [1, 3, 100]) {
    let running = 0
    let most = 0
    const begun: number[] = []
    await forEachLimited(Array.from({ length: 10 }, (_, i) => i), limit, async item => {
      begun.push(item)
      most = Math.max(most, ++running)
      await turn()
      running--
    })
    t.strictSame(begun, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 'in order')
    t.equal(most, Math.min(limit, 10), 'that many at once')
  }
  const done: number[] = []
  await t.rejects(forEachLimited([0, 1, 2, 3, 4], 2, async item => {
    await turn()
    if (item === 0) throw new Error('first')
    await turn()
    done.push(item)
  }), { message: 'first' })
  t.strictSame(done, [1], 'what was under way ends before the failure is thrown; nothing more is begun')
  await forEachLimited([], 3, async () => { t.fail('nothing to do') })
})

t.test('Budget', async t => {
  const budget = new Budget(10)
  const first = await budget.acquire(6)
  const order: string[] = []
  const large = budget.acquire(8).then(release => { order.push('large'); return release })
  const small = budget.acquire(1).then(release => { order.push('small'); return release })
  await turn()
  t.strictSame(order, [], 'who came first is served first, also if it needs more')
  first()
  first()
  const releaseLarge = await large
  const releaseSmall = await small
  t.strictSame(order, ['large', 'small'])
  releaseLarge()
  releaseSmall()
  ;(await budget.acquire(1000))()
  t.pass('one item larger than everything is let through alone')
})

t.test('SharedRun: who comes during a run gets the next one', async t => {
  let runs = 0
  let release: () => void = () => {}
  const shared = new SharedRun(async () => {
    const run = ++runs
    await new Promise<void>(resolve => { release = () => resolve() })
    if (run === 3) throw new Error('third')
    return run
  })
  const first = shared.run()
  const sameTurn = shared.run()
  await turn()
  const later = [shared.run(), shared.run()]
  release()
  t.equal(await first, 1)
  t.equal(await sameTurn, 1, 'nothing had been looked at yet')
  await turn()
  release()
  t.strictSame(await Promise.all(later), [2, 2])
  const failing = shared.run()
  await turn()
  const behind = shared.run()
  release()
  await t.rejects(failing, { message: 'third' })
  await turn()
  release()
  t.equal(await behind, 4, 'a failure is not handed on')
})

t.test('raceAbort', async t => {
  const never = new Promise<void>(() => {})
  t.equal(await raceAbort(Promise.resolve(1), undefined), 1)
  t.equal(await raceAbort(Promise.resolve(1), new AbortController().signal), 1)
  await t.rejects(raceAbort(never, AbortSignal.abort()), { code: 'ERR_ABORTED' })
  const abort = new AbortController()
  const waiting = raceAbort(never, abort.signal)
  abort.abort()
  await t.rejects(waiting, { code: 'ERR_ABORTED' })
  await t.rejects(raceAbort(Promise.reject(new Error('own')), new AbortController().signal), { message: 'own' })
  t.throws(() => throwIfAborted(abort.signal), { code: 'ERR_ABORTED' })
})
