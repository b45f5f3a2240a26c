import t from 'tap'
import type { Snapshot } from '../../src/format/snapshot.js'
import { filterSnapshots, hostFilter, matches, parseTagList, pathFilter, selectSnapshots } from '../../src/repository/filter.js'

type Some = Pick<Snapshot, 'id' | 'timeMs' | 'timeNs' | 'hostname' | 'tags' | 'paths'>
const snapshot = (id: string, timeMs: number, fields: Partial<Some> = {}): Some => ({ id: id.padEnd(64, '0'), timeMs, timeNs: 0, hostname: 'h', tags: [], paths: ['/home'], ...fields })
const none = { hosts: [], tags: [], paths: [], snapshots: [] }

t.test('matches', async t => {
  const one = snapshot('a', 0, { hostname: 'web', tags: ['daily', 'sql'], paths: ['/etc', '/home'] })
  for (const [name, filter, expected] of [
    ['no filter', {}, true],
    ['its host', { hosts: ['web'] }, true], ['one of the hosts', { hosts: ['db', 'web'] }, true], ['another host', { hosts: ['db'] }, false],
    ['a tag', { tags: [['sql']] }, true], ['all of a list', { tags: [['sql', 'daily']] }, true], ['not all of a list', { tags: [['sql', 'weekly']] }, false],
    ['one of the lists', { tags: [['weekly'], ['sql']] }, true], ['none of the lists', { tags: [['weekly'], ['x']] }, false], ['no tags wanted', { tags: [['']] }, false],
    ['a path', { paths: ['/etc'] }, true], ['all paths', { paths: ['/home', '/etc'] }, true], ['not all paths', { paths: ['/home', '/srv'] }, false], ['a folder above', { paths: ['/'] }, false],
    ['everything', { hosts: ['web'], tags: [['sql']], paths: ['/etc'] }, true], ['all but one', { hosts: ['web'], tags: [['sql']], paths: ['/srv'] }, false],
  ] as [string, object, boolean][]) t.equal(matches(one, { ...none, ...filter }), expected, name)
  t.equal(matches(snapshot('a', 0), { ...none, tags: [['']] }), true, 'an empty tag is for those without tags')
  t.equal(matches(snapshot('a', 0), { ...none, tags: [['', 'x']] }), true, 'and ends its list, as with restic')
})

t.test('what the flags mean', async t => {
  t.strictSame(parseTagList(' a, b ,c'), ['a', 'b', 'c'])
  t.strictSame(parseTagList(''), [''])
  t.strictSame(hostFilter(['a', 'b'], { RESTIC_HOST: 'x' }), ['a', 'b'])
  t.strictSame(hostFilter(undefined, { RESTIC_HOST: 'x' }), ['x'])
  t.strictSame(hostFilter([''], { RESTIC_HOST: 'x' }), [], 'an empty --host takes the variable away')
  t.strictSame(hostFilter(undefined, { RESTIC_HOST: '' }), [])
  t.strictSame(pathFilter(['/a/../b/', '/', '/x//y/.']), ['/b', '/', '/x/y'])
  t.strictSame(pathFilter(['x']), [`${process.cwd()}/x`])
})

t.test('filterSnapshots', async t => {
  const all = [snapshot('aa1', 1), snapshot('aa2', 2, { hostname: 'db' }), snapshot('b', 3), snapshot('c', 3, { timeNs: 1, hostname: 'db' })]
  const ids = (filter: object) => {
    const { snapshots, missing, ambiguous } = filterSnapshots(all, { ...none, ...filter })
    return { ids: snapshots.map(({ id }) => id.replace(/0+$/, '')), missing, ambiguous }
  }
  const found = (...names: string[]) => ({ ids: names, missing: [], ambiguous: [] })
  t.strictSame(ids({}), found('aa1', 'aa2', 'b', 'c'))
  t.strictSame(ids({ hosts: ['h'] }), found('aa1', 'b'))
  t.strictSame(ids({ snapshots: ['latest'] }), found('c'))
  t.strictSame(ids({ snapshots: ['latest'], hosts: ['h'] }), found('b'), 'latest of those that match')
  t.strictSame(ids({ snapshots: ['b', 'aa1', 'aa1'] }), found('aa1', 'b'), 'each once, in the order of the list')
  t.strictSame(ids({ snapshots: ['b', 'latest'], hosts: ['db'] }), found('b', 'c'), 'an id is meant whatever the filters say')
  t.strictSame(ids({ snapshots: [all[2].id] }), found('b'), 'a whole id')
  t.strictSame(ids({ snapshots: ['aa', 'x', ''] }), { ids: [], missing: ['x', ''], ambiguous: ['aa'] })
  t.strictSame(ids({ snapshots: ['latest'], hosts: ['none'] }), { ids: [], missing: ['latest'], ambiguous: [] })
  t.throws(() => selectSnapshots(all, { ...none, snapshots: ['x'] }), { code: 'ERR_USAGE', message: 'no snapshot x' })
  t.throws(() => selectSnapshots(all, { ...none, snapshots: ['aa'] }), { code: 'ERR_USAGE', message: /several/ })
  t.throws(() => selectSnapshots([], { ...none, snapshots: ['latest'] }), { code: 'ERR_USAGE' })
  t.strictSame(selectSnapshots(all, { ...none, snapshots: ['b'] }), [all[2]])
})
