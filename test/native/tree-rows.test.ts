import t from 'tap'
import { encodeRows, rowEntry, TreeRows, type RowEntry, type Time } from '../../src/format/tree-rows.js'
import { native } from '../../src/native.js'
import { hexId, variedTree } from '../fixtures/make-tree.js'
import { mutate } from '../fixtures/mutate.js'
import { shown } from '../fixtures/reference-tree.js'
import { seeded } from '../fixtures/seeded.js'

const TIME: Time = [1_700_000_000n, 123]
const file = (name: string | Buffer, fields: Partial<RowEntry> = {}): RowEntry => ({ name: Buffer.from(name as string), mode: 0o100644, ino: 77n, mtime: TIME, ...fields })

t.test('rows of our own making', async t => {
  const rows = encodeRows([
    file('z', { size: 600, content: Buffer.from(hexId('1') + hexId('2'), 'hex'), uid: 4_000_000_000, gid: 7, nlink: 3, atime: [-5n, 999_999_999], ctime: [2n ** 40n, 0] }),
    file('dir', { mode: 0o041777, subtree: Buffer.from(hexId('tree'), 'hex') }),
    file('link', { mode: 0o120777, target: Buffer.from([0x61, 0xff]) }),
    file(Buffer.from([0xff]), { mode: 0o060600, rdev: { major: 0xabc, minor: 0x12345 }, xattrs: [{ name: Buffer.from('system.posix_acl_access'), value: Buffer.from('v') }], damaged: true }),
    file('dir2', { mode: 0o040755 }),
  ])
  t.ok(native.verifyRows(rows))
  const view = new TreeRows(rows)
  t.same(shown(view).rows.map(row => row.name), ['dir', 'dir2', 'link', 'z', '\xff'])
  t.same([...view.directoryPositions], [0, 1])
  t.same([view.directories, view.ordinal(1), view.ordinal(2), view.flags], [2, 1, -1, 3])
  t.same([view.subtree(0)?.toString('hex'), view.subtree(1), view.subtree(3)], [hexId('tree'), null, null])
  t.same([view.contentCount(3), view.content(3).toString('hex'), view.size(3), view.blocks(3), view.uid(3), view.nlink(3)], [2, hexId('1') + hexId('2'), 600, 2, 4_000_000_000, 3])
  t.same([view.mtime(3), view.atime(3), view.ctime(3)], [TIME, [-5n, 999_999_999], [2n ** 40n, 0]])
  t.same([view.target(2), view.size(2), view.target(3).length], [Buffer.from([0x61, 0xff]), 2, 0])
  t.same([view.rdev(4), view.isDamaged(4)], [{ major: 0xabc, minor: 0x12345 }, true])
  t.same([view.xattrs(4), view.xattrs(0), view.hasXattrs(0)], [[{ name: Buffer.from('system.posix_acl_access'), value: Buffer.from('v') }], [], false])
  t.same([view.find(Buffer.from('z')), view.find(Buffer.from([0xff])), view.find(Buffer.from('a')), view.find(Buffer.from('')), view.find(Buffer.from('di'))], [3, 4, -1, -1, -1])
  t.throws(() => view.mode(5), RangeError)
  t.throws(() => view.mode(-1), RangeError)
})

t.test('no rows at all', async t => {
  const view = new TreeRows(encodeRows([]))
  t.same([view.count, view.find(Buffer.from('x')), native.verifyRows(view.bytes), view.replacement], [0, -1, true, null])
})

t.test('what was encoded can be encoded again', async t => {
  const view = new TreeRows(native.treeToRows(Buffer.alloc(32), variedTree()) as Buffer)
  const again = new TreeRows(encodeRows(Array.from({ length: view.count }, (_, position) => rowEntry(view, position))))
  t.same(shown(again), shown(view))
})

t.test('names no directory can hold are refused', async t => {
  for (const name of ['', '.', '..', 'a/b', 'a\0', 'x'.repeat(256)]) t.throws(() => encodeRows([file(name)]), RangeError)
  t.throws(() => encodeRows([file('a'), file('b'), file('a')]), RangeError)
})

t.test('a name is found among 50,000', async t => {
  const names = Array.from({ length: 50_000 }, (_, i) => `name ${i}`)
  const rows = encodeRows(names.map(name => file(name)))
  const view = new TreeRows(rows)
  t.ok(names.every(name => view.name(view.find(Buffer.from(name))).toString() === name))
  t.equal(view.find(Buffer.from('name')), -1)
  t.equal(view.find(Buffer.from('name 99999x')), -1)
})

t.test('one flipped bit anywhere breaks the seal', async t => {
  const rows = encodeRows([file('a'), file('dir', { mode: 0o040755 }), file('long name'.repeat(3))])
  const sound: number[] = []
  for (let bit = 0; bit < rows.length * 8; bit++) {
    rows[bit >> 3]! ^= 1 << (bit & 7)
    if (native.verifyRows(rows)) sound.push(bit)
    rows[bit >> 3]! ^= 1 << (bit & 7)
  }
  t.same(sound, [])
  t.ok(native.verifyRows(rows))
  for (const length of [0, 1, 63, 64, rows.length - 1]) t.notOk(native.verifyRows(rows.subarray(0, length)), `cut to ${length}`)
  t.notOk(native.verifyRows(Buffer.concat([rows, Buffer.alloc(1)])))
})

t.test('damaged rows are read within their bounds', async t => {
  const { seed, random } = seeded()
  const count = Number(process.env['MUTATIONS'] ?? 2000)
  const original = native.treeToRows(Buffer.alloc(32), variedTree()) as Buffer
  let opened = 0
  for (let round = 0; round < count; round++) {
    // Most with the length still right, or nothing but the header would be tried.
    let bytes = mutate(original, random)
    if (random() < 0.8) bytes = Buffer.concat([bytes, Buffer.alloc(original.length)]).subarray(0, original.length)
    native.findRow(bytes, Buffer.from('d'))
    let view: TreeRows
    try {
      view = new TreeRows(bytes)
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_CORRUPT') throw error
      continue
    }
    opened++
    shown(view)
    void view.directoryPositions
  }
  t.ok(opened > 0, `${opened} of ${count} opened, seed ${seed}`)
})

t.test('numbers of directories ascend with the position and differ between parents', async t => {
  const seen = new Set<bigint>()
  for (let parent = 1n; parent < 100n; parent++) {
    for (let position = 0; position < 50; position++) {
      const ino = native.directoryIno(parent, position)
      if (position > 0 && ino <= native.directoryIno(parent, position - 1)) t.fail(`parent ${parent}, position ${position}`)
      if (ino < 2n) t.fail(`${ino}`)
      seen.add(ino)
    }
  }
  t.equal(seen.size, 99 * 50)
  t.equal(native.directoryIno(2n ** 64n - 1n, 3), native.directoryIno(2n ** 64n - 1n, 3))
})
