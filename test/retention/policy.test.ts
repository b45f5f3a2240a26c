import t from 'tap'
import { parseTimestamp } from '../../src/format/time.js'
import { applyPolicy, isEmptyPolicy, NO_POLICY, type Expirable, type Policy } from '../../src/retention/policy.js'
import { parseSpan } from '../../src/retention/span.js'
import { modelKeeps } from '../fixtures/policy-model.js'
import { TIMES, VECTORS } from '../fixtures/restic-policies.js'
import { seeded } from '../fixtures/seeded.js'
import { randomHistory, randomPolicy, ZONES } from '../fixtures/snapshot-history.js'

const NOW = Date.UTC(2026, 10, 20, 12)

function snapshot(time: string, ...tags: string[]): Expirable {
  const { ms, ns, zoneMinutes } = parseTimestamp(time)!
  return { time, timeMs: ms, timeNs: ns, zoneMinutes, tags }
}

const times = (list: readonly Expirable[]) => list.map(({ time }) => time)

/** What is kept, as times, of snapshots given as "TIME" or "TIME tag,tag". */
function kept(given: readonly string[], policy: Partial<Policy>, nowMs = NOW): string[] {
  const list = given.map(line => {
    const [time, tags] = line.split(' ')
    return snapshot(time, ...tags === undefined ? [] : tags.split(','))
  })
  return times(applyPolicy(list, { ...NO_POLICY, ...policy }, nowMs).keep.map(({ snapshot }) => snapshot))
}

t.test('restic\'s own vectors', async t => {
  const list = TIMES.map(line => snapshot(`${line.split(' ')[0]}Z`, ...(line.split(' ')[1] ?? '').split(',').filter(tag => tag !== '')))
  for (const [terms, expected] of VECTORS) {
    const policy = { ...NO_POLICY } as Record<string, unknown>
    for (const [term, value] of Object.entries(terms)) policy[term] = typeof value === 'string' ? parseSpan(term, value) : value === -1 ? Infinity : value
    const name = JSON.stringify(terms)
    const wanted = new Map<number, string[]>()
    for (const [reason, numbers] of Object.entries(expected)) {
      for (const range of numbers.split(' ')) {
        const [first, last = first] = range.split('-').map(Number)
        for (let i = first; i <= last; i++) wanted.set(i, [...wanted.get(i) ?? [], reason])
      }
    }
    const { keep, remove } = applyPolicy(list, policy as unknown as Policy, NOW)
    // Without a policy restic's function removes everything, and its command refuses to ask.
    if (isEmptyPolicy(policy as unknown as Policy)) wanted.set(0, ['last complete snapshot'])
    t.strictSame(keep.map(({ snapshot, reasons }) => [list.indexOf(snapshot), [...reasons].sort()]), [...wanted].sort(([a], [b]) => a - b).map(([i, reasons]) => [i, reasons.sort()]), name)
    t.equal(keep.length + remove.length, list.length)
  }
})

t.test('agrees with a brute-force model over random histories', async t => {
  const { seed, random } = seeded()
  t.comment(`SEED=${seed}`)
  const zone = process.env.TZ
  t.teardown(() => { if (zone === undefined) delete process.env.TZ; else process.env.TZ = zone })
  for (let i = 0; i < 1000; i++) {
    process.env.TZ = ZONES[i % ZONES.length]
    const history = randomHistory(random, 1 + Math.floor(random() * 80), NOW)
    const policy = randomPolicy(random)
    const ours = applyPolicy(history, policy, NOW).keep.map(({ snapshot }) => snapshot.id).sort((a, b) => a - b)
    const models = modelKeeps(history, policy, NOW).map(ids => [...ids].sort((a, b) => a - b))
    if (models.some(model => JSON.stringify(model) === JSON.stringify(ours))) continue
    t.strictSame(ours, models[0], `history ${i} in ${process.env.TZ}: ${JSON.stringify(policy)}`)
    return
  }
  t.pass('1000 histories')
})

t.test('days of the calendar, counted back from the newest', async t => {
  const daily = ['2026-11-20T03:00:00Z', '2026-11-19T23:59:00Z', '2026-11-18T00:00:00Z', '2026-11-17T23:59:59Z']
  t.strictSame(kept(daily, { days: 2 }), daily.slice(0, 3), 'none of the first day goes before the day does')
  t.strictSame(kept(daily, { days: 2 }, Date.UTC(2030, 0)), daily.slice(0, 3), 'nothing expires where backups have stopped')
  t.strictSame(kept(['2026-11-22T03:00:00Z', ...daily], { days: 1 }), ['2026-11-22T03:00:00Z', ...daily.slice(0, 2)], 'a clock that was wrong once does not make the past older')
})

t.test('the last of a month and of a year', async t => {
  const list = ['2026-11-20T03:00:00Z', '2026-10-31T23:00:00Z', '2026-10-31T03:00:00Z', '2026-09-12T03:00:00Z', '2026-07-01T03:00:00Z', '2025-12-30T03:00:00Z', '2024-02-29T03:00:00Z']
  const rest = (policy: Partial<Policy>) => {
    const [first, ...others] = kept(list, policy)
    t.equal(first, list[0], 'the present one\'s last so far')
    return others
  }
  t.strictSame(rest({ lastOfMonth: 1 }), [list[1]], 'of one that is over')
  t.strictSame(rest({ lastOfMonth: 3 }), [list[1], list[3]], 'a month without one counts')
  t.strictSame(rest({ lastOfMonth: Infinity }), [list[1], list[3], list[4], list[5], list[6]])
  t.strictSame(rest({ lastOfYear: 1 }), [list[5]])
  t.strictSame(rest({ lastOfYear: 2 }), [list[5], list[6]])
  t.strictSame(kept(['2026-11-01T00:30:00+02:00', '2026-10-31T23:30:00+02:00'], { lastOfMonth: 1 }).length, 2, 'by the clock of the machine that was backed up')
  t.strictSame(kept(['2026-11-20T03:00:00Z', '2026-10-31T03:00:00Z incomplete', '2026-10-30T03:00:00Z'], { lastOfMonth: 1 }), ['2026-11-20T03:00:00Z', '2026-10-30T03:00:00Z'], 'the last complete one')
})

t.test('forgetting after every backup leaves what forgetting once would', async t => {
  const daily = Array.from({ length: 400 }, (_, day) => snapshot(new Date(Date.UTC(2025, 9, 15 + day, 3)).toISOString()))
  for (const terms of [{ lastOfMonth: 6 }, { lastOfYear: 1 }, { days: 30 }, { days: 7, lastOfMonth: 12, lastOfYear: 5 }]) {
    let left: Expirable[] = []
    for (const next of daily) left = applyPolicy([...left, next], { ...NO_POLICY, ...terms }, NOW).keep.map(({ snapshot }) => snapshot)
    t.strictSame(times(left), times(applyPolicy(daily, { ...NO_POLICY, ...terms }, NOW).keep.map(({ snapshot }) => snapshot)), JSON.stringify(terms))
  }
})

t.test('the last complete snapshot is never removed by a rule', async t => {
  for (const [name, list, policy, expected] of [
    ['no term speaks for any', ['2026-11-20T03:00:00Z', '2026-11-19T03:00:00Z'], { tags: [['none']] }, [0]],
    ['no term at all', ['2026-11-20T03:00:00Z', '2026-11-19T03:00:00Z'], {}, [0]],
    ['those kept are incomplete', ['2026-11-20T03:00:00Z incomplete', '2026-11-19T03:00:00Z incomplete', '2026-11-18T03:00:00Z', '2026-11-17T03:00:00Z'], { last: 2 }, [0, 1, 2]],
    ['all are incomplete', ['2026-11-20T03:00:00Z incomplete', '2026-11-19T03:00:00Z incomplete'], { tags: [['none']] }, [0]],
    ['a complete one is kept', ['2026-11-20T03:00:00Z', '2026-11-19T03:00:00Z'], { last: 1 }, [0]],
  ] as const satisfies readonly (readonly [string, readonly string[], object, readonly number[]])[]) t.strictSame(kept(list, policy as Partial<Policy>), expected.map(i => list[i]!.split(' ')[0]), name)
})

t.test('what is locked stays', async t => {
  for (const [tag, stays] of [
    ['locked', true], ['unlocked', false], ['keep-until=2026-11-21', true], ['keep-until=2026-11-19', false], ['keep-until=2026-11-20T12:00:00Z', false], ['keep-until=2026-11-20T12:00:01Z', true],
    ['keep-until=2026-02-30', true], ['keep-until=next week', true],
  ] as const) t.equal(kept(['2026-11-20T03:00:00Z', `2020-01-01T03:00:00Z ${tag}`], { last: 1 }).length, stays ? 2 : 1, tag)
  t.strictSame(kept(['2026-11-20T03:00:00Z', '2026-11-19T03:00:00Z locked', '2026-11-18T03:00:00Z'], { last: 2 }).length, 2, 'and takes a place like any other, as with restic')
})

t.test('"within" ends just before the moment it reaches back to, to the nanosecond', async t => {
  const list = ['2026-11-20T03:00:00.000000005Z', '2026-11-19T03:00:00.000000006Z', '2026-11-19T03:00:00.000000005Z']
  t.strictSame(kept(list, { within: parseSpan('--keep-within', '1d') }), list.slice(0, 2))
})

t.test('parseSpan', async t => {
  t.strictSame(parseSpan('--keep-within', '1y5m7d2h'), { years: 1, months: 5, days: 7, hours: 2 })
  t.strictSame(parseSpan('--keep-within', '2h1d'), { years: 0, months: 0, days: 1, hours: 2 })
  for (const none of ['', '0d']) t.equal(parseSpan('--keep-within', none), null, `'${none}'`)
  for (const bad of ['3', 'd', '-1d', '1w', '1.5d', 'one day']) t.throws(() => parseSpan('--keep-within', bad), { code: 'ERR_USAGE' }, bad)
  t.strictSame(kept(['2026-11-20T03:00:00Z', '1970-01-01T00:00:00Z'], { within: parseSpan('--keep-within', '999999999y') }).length, 2, 'longer than any calendar is everything')
})
