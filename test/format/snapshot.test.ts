import t from 'tap'
import { compareSnapshots, decodeSnapshot } from '../../src/format/snapshot.js'
import type { Snapshot } from '../../src/format/snapshot.js'
import type { SnapshotEntry } from '../../src/fs/sources.js'
import { json } from '../fixtures/memory-repository.js'

const ID = 'cd'.repeat(32)
const good = { time: '2026-11-20T10:00:00.123456789+01:00', tree: 'ab'.repeat(32), paths: ['/a', '/b'], hostname: 'h', username: 'u', tags: ['x'] }

t.test('decodeSnapshot', async t => {
  const snapshot: SnapshotEntry = decodeSnapshot(ID, json({
    ...good, uid: 0, gid: 0, excludes: ['*.o'], parent: '12'.repeat(32), original: '34'.repeat(32), program_version: 'restic 0.19.1', summary: { files_new: 1 }, label: 'rustic\'s',
  }))
  t.match(snapshot, {
    id: ID, timeMs: Date.UTC(2026, 10, 20, 9, 0, 0, 123), timeNs: 456_789, zoneMinutes: 60, time: good.time, hostname: 'h', username: 'u', tags: ['x'], paths: ['/a', '/b'],
    parent: '12'.repeat(32), original: '34'.repeat(32), programVersion: 'restic 0.19.1', summary: { files_new: 1 },
  })
  t.ok(Buffer.from(snapshot.tree).equals(Buffer.alloc(32, 0xab)))
})

t.test('decodeSnapshot does without what can be done without', async t => {
  const rest = { hostname: '', username: '', tags: [], paths: [], parent: null, original: null, programVersion: '', summary: null }
  t.match(decodeSnapshot(ID, json({ time: good.time, tree: good.tree })), rest, 'nothing else there')
  t.match(decodeSnapshot(ID, json({ time: good.time, tree: good.tree, tags: null, paths: null, parent: null, summary: null })), rest, 'nulls')
  t.match(decodeSnapshot(ID, json({ ...good, hostname: 5, tags: 'x', paths: { 0: '/a' }, parent: 'x', program_version: [] })), { hostname: '', tags: [], paths: [], parent: null }, 'wrong types')
  t.strictSame(decodeSnapshot(ID, json({ ...good, tags: ['a', 1, null, 'b'] })).tags, ['a', 'b'])
})

t.test('decodeSnapshot refuses', async t => {
  for (const [name, fields, reason] of [
    ['no tree', { tree: undefined }, 'no tree'], ['null tree', { tree: null }, 'no tree'], ['short tree', { tree: 'ab' }, 'no tree'],
    ['no time', { time: undefined }, 'no time'], ['bad time', { time: 'yesterday' }, 'no time'], ['time as number', { time: 0 }, 'no time'],
  ] as const) t.throws(() => decodeSnapshot(ID, json({ ...good, ...fields })), { code: 'ERR_CORRUPT', file: `snapshot ${ID}`, reason }, name)
})

t.test('compareSnapshots: oldest first, down to the nanosecond, then by id', async t => {
  const at = (id: string, timeMs: number, timeNs: number) => ({ id, timeMs, timeNs }) as Snapshot
  const sorted = [at('a', -5, 0), at('b', 0, 1), at('a', 0, 2), at('b', 0, 2), at('0', 1, 0)]
  t.strictSame([...sorted].reverse().sort(compareSnapshots), sorted)
})
