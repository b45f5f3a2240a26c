import t from 'tap'
import { assignDayNames, resticTime } from '../../src/fs/day-names.js'

process.env.TZ = 'Europe/Paris'
const at = (id: string, time: string) => ({ id: id.padEnd(64, '0'), timeMs: Date.parse(time) })
const named = (names: Map<string, string>) => Object.fromEntries([...names].map(([id, name]) => [id.replace(/0+$/, ''), name]))

t.test('the first snapshot of a local day has the day as its name, further ones the second', async t => {
  const names = assignDayNames([at('b', '2026-11-20T15:04:05+01:00'), at('a', '2026-11-20T03:00:00+01:00'), at('c', '2026-11-19T23:30:00Z')])
  // 23:30 UTC is half past midnight of the next day in Paris
  t.strictSame(named(names), { c: '2026-11-20', a: '2026-11-20T03-00-00', b: '2026-11-20T15-04-05' })
})

t.test('two snapshots of one second are told apart by their ids', async t => {
  const names = assignDayNames([at('a1', '2026-01-02T10:00:00Z'), at('b1', '2026-01-02T10:00:00Z'), at('c1', '2026-01-02T10:00:00Z')])
  t.strictSame(named(names), { a1: '2026-01-02', b1: '2026-01-02T11-00-00', c1: '2026-01-02T11-00-00-c1000000' })
})

t.test('a name keeps its meaning', async t => {
  const morning = at('a', '2026-05-01T06:00:00Z')
  const noon = at('b', '2026-05-01T10:00:00Z')
  const first = assignDayNames([noon])
  t.equal(first.get(noon.id), '2026-05-01')
  t.test('when an older snapshot of the day appears', async t => {
    t.strictSame(named(assignDayNames([morning, noon], first)), { b: '2026-05-01', a: '2026-05-01T08-00-00' })
  })
  t.test('when the first of the day is forgotten', async t => {
    const both = assignDayNames([morning, noon])
    t.strictSame(named(assignDayNames([noon], both)), { b: '2026-05-01T12-00-00' })
  })
})

t.test('names survive the change of clocks', async t => {
  // 02:30 comes twice on this day
  const names = assignDayNames([at('a', '2026-10-25T00:30:00Z'), at('b', '2026-10-25T01:30:00Z'), at('c', '2026-10-24T20:00:00Z'), at('d', '2026-10-25T00:30:00Z')])
  t.equal(new Set(names.values()).size, 4)
  t.strictSame(named(names), { c: '2026-10-24', a: '2026-10-25', d: '2026-10-25T02-30-00', b: '2026-10-25T02-30-00-b0000000' })
})

t.test('restic names times with their offset', async t => {
  t.equal(resticTime(Date.parse('2026-07-01T10:00:00Z')), '2026-07-01T12:00:00+02:00')
})
