import { createHash } from 'node:crypto'
import t from 'tap'
import { TreeHandles } from '../../src/fs/tree-handles.js'

const id = (n: number) => createHash('sha256').update(String(n)).digest()

t.test('every tree has one handle, and every handle its tree, also where the table grows (the 1024th was lost)', async t => {
  const handles = new TreeHandles()
  const given = Array.from({ length: 10_000 }, (_, n) => handles.of(id(n)))
  t.equal(new Set(given).size, 10_000)
  t.notOk(given.includes(0), 'handle 0 is for directories of our own making')
  const wrong = given.filter((handle, n) => !handles.id(handle).equals(id(n)) || handles.of(id(n)) !== handle)
  t.strictSame(wrong, [])
  t.equal(handles.size, 10_000)
})
