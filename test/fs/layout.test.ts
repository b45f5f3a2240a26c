import t from 'tap'
import { daysLayout, inheritNames, resticLayout, safeName, type LayoutDirectory } from '../../src/fs/layout.js'
import type { SnapshotEntry } from '../../src/fs/sources.js'

process.env.TZ = 'UTC'
const snapshot = (id: string, time: string, more: Partial<SnapshotEntry> = {}): SnapshotEntry => ({
  id: id.padEnd(64, '0'), tree: Buffer.alloc(32), timeMs: Date.parse(time), timeNs: 0, hostname: 'web1', username: 'root', tags: [], paths: ['/srv'], ...more,
})
/** names, links with their targets, directories with what is in them */
const shape = (directory: LayoutDirectory): Record<string, unknown> => Object.fromEntries([...directory].map(([name, entry]) =>
  [name, entry.kind === 'directory' ? shape(entry.entries) : entry.kind === 'link' ? `-> ${entry.target}` : entry.snapshot.id.replace(/0+$/, '')]))

const DAY1 = snapshot('a', '2026-11-19T01:00:00Z')
const DAY2 = snapshot('b', '2026-11-20T01:00:00Z')
const OTHER = snapshot('c', '2026-11-21T01:00:00Z', { hostname: 'web2' })

t.test('one host: days at the top', async t => {
  t.strictSame(shape(daysLayout([DAY2, DAY1], new Map(), null).root), { '2026-11-19': 'a', '2026-11-20': 'b', latest: '-> 2026-11-20' })
})

t.test('several hosts: one level more, each with its own latest', async t => {
  t.strictSame(shape(daysLayout([DAY1, DAY2, OTHER], new Map(), null).root), {
    web1: { '2026-11-19': 'a', '2026-11-20': 'b', latest: '-> 2026-11-20' },
    web2: { '2026-11-21': 'c', latest: '-> 2026-11-21' },
  })
})

t.test('a second host that appears while mounted moves nothing', async t => {
  t.strictSame(shape(daysLayout([DAY1, OTHER], new Map(), 'web1').root), {
    '2026-11-19': 'a', latest: '-> 2026-11-19', web2: { '2026-11-21': 'c', latest: '-> 2026-11-21' },
  })
})

t.test('a snapshot that is tagged anew keeps its name', async t => {
  const morning = snapshot('a', '2026-11-20T06:00:00Z'), noon = snapshot('b', '2026-11-20T12:00:00Z'), tagged = snapshot('e', '2026-11-20T12:00:00Z', { tags: ['keep'] })
  const { names } = daysLayout([morning, noon], new Map(), null)
  // the first of the day is forgotten, so its plain name is free; the other is written anew
  const after = daysLayout([noon], names, null).names
  t.strictSame(shape(daysLayout([tagged], inheritNames(after, [noon], [tagged]), null).root), { '2026-11-20T12-00-00': 'e', latest: '-> 2026-11-20T12-00-00' })
})

t.test('no snapshots: an empty root, no dangling latest', async t => { t.equal(daysLayout([], new Map(), null).root.size, 0) })

t.test('restic layout', async t => {
  const tagged = snapshot('d', '2026-11-20T01:00:00Z', { tags: ['daily', 'a/b'] })
  t.strictSame(shape(resticLayout([DAY1, DAY2, tagged])), {
    ids: { a0000000: 'a', b0000000: 'b', d0000000: 'd' },
    snapshots: { '2026-11-19T01:00:00Z': 'a', '2026-11-20T01:00:00Z': 'b', '2026-11-20T01:00:00Z-1': 'd', latest: '-> 2026-11-20T01:00:00Z-1' },
    hosts: { web1: { '2026-11-19T01:00:00Z': 'a', '2026-11-20T01:00:00Z': 'b', '2026-11-20T01:00:00Z-1': 'd', latest: '-> 2026-11-20T01:00:00Z-1' } },
    tags: { 'a_b': { '2026-11-20T01:00:00Z': 'd', latest: '-> 2026-11-20T01:00:00Z' }, daily: { '2026-11-20T01:00:00Z': 'd', latest: '-> 2026-11-20T01:00:00Z' } },
  })
})

t.test('a tag or host that is no file name is made one', async t => {
  for (const [text, name] of [['', '_'], ['.', '_'], ['..', '_'], ['a/b', 'a_b'], ['a\0b', 'a_b'], ['ok', 'ok']]) t.equal(safeName(text), name)
  t.ok(Buffer.byteLength(safeName('é'.repeat(300))) <= 240)
})
