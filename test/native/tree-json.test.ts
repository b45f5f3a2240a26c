import t from 'tap'
import { TreeRows } from '../../src/format/tree-rows.js'
import { DecodeError, native } from '../../src/native.js'
import { hexId, resticNode, treeJson, variedTree, ZERO_CHUNK } from '../fixtures/make-tree.js'
import { mutate } from '../fixtures/mutate.js'
import { referenceTree, shown } from '../fixtures/reference-tree.js'
import { seeded } from '../fixtures/seeded.js'

const ID = Buffer.alloc(32, 7)

function rowsOf(nodes: readonly unknown[]): TreeRows { return new TreeRows(native.treeToRows(ID, treeJson(nodes)) as Buffer) }
/** One field of the only node, which must not have been left out. */
function rowOf(fields: Record<string, unknown>, name = 'name') {
  const view = rowsOf([resticNode(name, fields)])
  return { ...shown(view).rows[0]!, damaged: view.count === 1 && view.isDamaged(0) }
}

t.test('a tree of everything is as the reference reads it', async t => {
  const json = variedTree()
  const rows = native.treeToRows(ID, json) as Buffer
  t.ok(native.verifyRows(rows))
  t.same(shown(new TreeRows(rows)), referenceTree(ID, json.toString()))
  t.equal(new TreeRows(rows).count, 7)
})

t.test('names are unquoted to their bytes', async t => {
  for (const [quoted, bytes] of [
    ['plain', 'plain'], ['\\"', '"'], ['\\\\', '\\'], ['\\\'', '\''], ['\\a\\b\\f\\n\\r\\t\\v', '\x07\b\f\n\r\t\v'], ['\\xff\\x41', '\xffA'], ['\\101\\377', 'A\xff'],
    ['\\u00e9', '\xc3\xa9'], ['\\U0001f600', '\xf0\x9f\x98\x80'], ['\u00e9', '\xc3\xa9'], ['<&>\u2028', '<&>\xe2\x80\xa8'],
    // What Go does not unquote stands as it is.
    ['\\q', '\\q'], ['\\', '\\'], ['a"b', 'a"b'], ['\\x4', '\\x4'], ['\\ud800', '\\ud800'], ['\\U00110000', '\\U00110000'], ['\\400', '\\400'], ['\\n\n', '\\n\n'],
  ] as const) t.equal(rowOf({}, quoted).name, bytes, JSON.stringify(bytes).replace(/[^ -~]/g, '?'))
})

t.test('a name no directory can hold takes its node away and nothing else', async t => {
  for (const name of ['', '.', '..', '/', 'a/b', '\\x2f', 'a\\x00', '\u0000', 'x'.repeat(256), 7, null, undefined, ['a']]) {
    const view = rowsOf([resticNode('before'), resticNode(name as string), resticNode('~after')])
    t.same([view.count, view.skipped, view.find(Buffer.from('~after'))], [2, 1, 1], String(name))
  }
  t.equal(rowOf({}, 'x'.repeat(255)).name.length, 255)
})

t.test('a directory named . or / stands for the tree', async t => {
  for (const name of ['.', '/']) {
    const view = rowsOf([resticNode(name, { type: 'dir', subtree: hexId('real') }), resticNode('beside')])
    t.same([view.replacement?.toString('hex'), view.skipped, view.count], [hexId('real'), 0, 1], name)
  }
  t.equal(rowsOf([resticNode('.', { type: 'file' })]).replacement, null)
})

t.test('types and modes', async t => {
  for (const [type, mode, expected] of [
    ['file', 0o644, 0o100644], ['file', 2 ** 23 + 0o755, 0o104755], ['file', 2 ** 22 + 0o755, 0o102755], ['file', 2 ** 20, 0o101000], ['file', undefined, 0o100000],
    ['dir', 2 ** 31 + 2 ** 20 + 0o777, 0o041777], ['symlink', 2 ** 27 + 0o777, 0o120777], ['dev', 2 ** 26 + 0o660, 0o060660], ['chardev', 2 ** 26 + 2 ** 21 + 0o600, 0o020600],
    ['fifo', 2 ** 25 + 0o600, 0o010600], ['socket', 2 ** 24 + 0o755, 0o140755], ['file', 2 ** 31 + 0o644, 0o100644],
  ] as const) t.equal(rowOf({ type, mode, linktarget: 'x' }).mode, expected, `${type} ${mode}`)
  for (const type of ['irregular', '', 'door', undefined, null, 5, 'toString']) t.same([rowsOf([resticNode('n', { type })]).count, rowsOf([resticNode('n', { type })]).skipped], [0, 1], String(type))
})

t.test('times', async t => {
  for (const [text, seconds, nanoseconds] of [
    ['1970-01-01T00:00:00Z', 0n, 0], ['1969-12-31T23:59:59.999999999Z', -1n, 999_999_999], ['1970-01-01T01:00:00+02:00', -3600n, 0],
    ['2024-02-29T12:00:00.5-05:30', 1_709_227_800n, 500_000_000], ['0001-01-01T00:00:00Z', -62_135_596_800n, 0], ['9999-12-31T23:59:59.1Z', 253_402_300_799n, 100_000_000],
    ['0000-01-01T00:00:00Z', -62_167_219_200n, 0], ['2300-01-01T00:00:00.1234567891Z', 10_413_792_000n, 123_456_789], ['1900-03-01T00:00:00Z', -2_203_891_200n, 0],
  ] as const) t.same([rowOf({ mtime: text }).times[0], rowOf({ mtime: text }).damaged], [[seconds, nanoseconds], false], text)
  for (const text of ['', '2024', '2023-02-29T00:00:00Z', '2024-13-01T00:00:00Z', '2024-01-01T24:00:00Z', '2024-01-01 00:00:00Z', '2024-01-01T00:00:00', '2024-01-01T00:00:00.Z',
    '2024-01-01T00:00:00+1', '2024-01-01T00:00:60Z', '-2024-01-01T00:00:00Z', 12]) {
    t.same([rowOf({ ctime: text }).times[2], rowOf({ ctime: text }).damaged], [[0n, 0], true], String(text))
  }
})

t.test('numbers out of range are repaired and the row says so', async t => {
  for (const { fields, expected, damaged } of [
    { fields: { uid: 4_294_967_295 }, expected: { uid: 4_294_967_295 }, damaged: false },
    { fields: { uid: 4_294_967_296 }, expected: { uid: 65_534 }, damaged: true },
    { fields: { gid: -1 }, expected: { gid: 65_534 }, damaged: true },
    { fields: { mode: 2 ** 32 }, expected: { mode: 0o100000 }, damaged: true },
    { fields: { mode: '0644' }, expected: { mode: 0o100000 }, damaged: true },
    { fields: { links: undefined }, expected: { nlink: 1 }, damaged: false },
    { fields: { links: 0 }, expected: { nlink: 1 }, damaged: false },
    { fields: { links: 2 ** 40 }, expected: { nlink: 4_294_967_295 }, damaged: false },
    { fields: { links: 1.5 }, expected: { nlink: 1 }, damaged: true },
    { fields: { error: 'read error' }, expected: {}, damaged: true },
    { fields: { size: 9, content: [] }, expected: { size: 9n, content: '' }, damaged: true },
    { fields: { size: 0, content: null }, expected: { size: 0n, blocks: 0n }, damaged: false },
    { fields: { type: 'dir', subtree: undefined }, expected: { subtree: null, size: 4096n, blocks: 8n, nlink: 1 }, damaged: true },
    { fields: { type: 'dev', device: undefined }, expected: { rdev: { major: 0, minor: 0 } }, damaged: false },
    { fields: { type: 'dev', device: 0x12345 << 8 | 0x67 }, expected: { rdev: { major: 0x345, minor: 0x1267 } }, damaged: false },
    { fields: { type: 'dev', device: 2 ** 44 }, expected: { rdev: { major: 0, minor: 0 } }, damaged: true },
    { fields: { type: 'symlink', linktarget: '' }, expected: { target: '', size: 0n }, damaged: true },
    { fields: { type: 'symlink', linktarget: 'a\0b' }, expected: { target: 'a', size: 1n }, damaged: true },
    { fields: { type: 'symlink', linktarget: 'a', linktarget_raw: '/w==' }, expected: { target: '\xff', size: 1n, blocks: 0n }, damaged: false },
    { fields: { type: 'symlink', linktarget: 'a', linktarget_raw: '/w=' }, expected: { target: 'a' }, damaged: true },
  ]) {
    const row = rowOf(fields)
    t.match(row, expected, JSON.stringify(fields))
    t.equal(row.damaged, damaged, `${JSON.stringify(fields)} damaged`)
  }
  for (const fields of [{ size: -1 }, { size: 2 ** 63 }, { size: '5' }, { size: 1.5 }, { content: ['00'] }, { content: [hexId('a'), 5] }, { content: 'none' },
    { type: 'symlink', linktarget: 'x'.repeat(4096) }]) t.equal(rowsOf([resticNode('n', fields)]).skipped, 1, JSON.stringify(fields).slice(0, 60))
})

t.test('64-bit numbers keep all their bits', async t => {
  const json = Buffer.from(`{"nodes":[{"name":"a","type":"file","size":9223372036854775807,"inode":18446744073709551615,"device_id":18446744073709551615,"content":null}]}`)
  t.same(shown(new TreeRows(native.treeToRows(ID, json) as Buffer)), referenceTree(ID, json.toString()))
  t.equal(new TreeRows(native.treeToRows(ID, json) as Buffer).size(0), 2 ** 63)
})

t.test('holes are left out of the blocks', async t => {
  for (const [size, ids, blocks] of [[1, [hexId('a')], 1n], [512, [hexId('a')], 1n], [513, [hexId('a')], 2n], [2 ** 20, [ZERO_CHUNK, hexId('a')], 1024n], [2 ** 20, [ZERO_CHUNK, ZERO_CHUNK], 0n],
    [100, [ZERO_CHUNK], 0n]] as const) t.equal(rowOf({ size, content: ids }).blocks, blocks, `${size}`)
})

t.test('extended attributes', async t => {
  const xattrs = (list: unknown) => rowOf({ extended_attributes: list })
  t.same(xattrs([{ name: 'user.a', value: 'YQ==' }, { name: 'user.b', value: null }, { name: 'user.c' }]).xattrs, [['user.a', 'a'], ['user.b', ''], ['user.c', '']])
  for (const [bad, kept] of [[[{ name: '', value: 'YQ==' }], 0], [[{ value: 'YQ==' }], 0], [[{ name: 'user.a', value: '*' }, { name: 'user.b', value: '' }], 1], [['x', { name: 'user.b' }], 1],
    [[{ name: 'user.a', value: 'YQ==' }, { name: 'user.a', value: 'Yg==' }], 1], [[{ name: 'x'.repeat(256) }], 0], ['text', 0], [[{ name: 'a\0' }], 0], [[{ name: 'a', value: 5 }], 0],
    [[{ name: 'user.big', value: Buffer.alloc(65537).toString('base64') }], 0]] as const) {
    const row = xattrs(bad)
    t.same([row.xattrs.length, row.damaged], [kept, true], JSON.stringify(bad).slice(0, 80))
  }
  t.same(xattrs([{ name: 'user.a', value: '*' }, { name: 'user.a', value: 'YQ==' }]).xattrs, [['user.a', 'a']], 'one left out does not take its name along')
  t.equal(xattrs([{ name: 'user.big', value: Buffer.alloc(65536).toString('base64') }]).damaged, false)
  t.equal(rowsOf([resticNode('a', { extended_attributes: [{ name: 'system.posix_acl_default', value: '' }, { name: 'security.selinux', value: '' }] })]).flags, 7)
})

t.test('rows ascend by the bytes of their names, and the first of two stays', async t => {
  const view = rowsOf([resticNode('b', { uid: 1 }), resticNode('\\xff'), resticNode('a'), resticNode('b', { uid: 2 }), resticNode('\u00e9'), resticNode('a.'), resticNode('a0')])
  t.same(shown(view).rows.map(row => row.name), ['a', 'a.', 'a0', 'b', '\xc3\xa9', '\xff'])
  t.same([view.skipped, view.uid(3)], [1, 1])
})

t.test('hard links share a number, other files and other trees without inode do not', async t => {
  const numbers = (id: Buffer, ...nodes: unknown[]) => shown(new TreeRows(native.treeToRows(id, treeJson(nodes)) as Buffer)).rows.map(row => row.ino)
  const linked = { links: 2, content: [hexId('same')] }
  const [a, b, c] = numbers(ID, resticNode('a', linked), resticNode('b', linked), resticNode('c', { ...linked, inode: 1 })) as [bigint, bigint, bigint]
  t.equal(a, b)
  t.not(a, c)
  t.equal(numbers(Buffer.alloc(32, 9), resticNode('z', linked))[0], a)
  t.not(numbers(ID, resticNode('a', { inode: undefined }))[0], numbers(Buffer.alloc(32, 9), resticNode('a', { inode: undefined }))[0])
})

t.test('only JSON that is no tree fails', async t => {
  for (const json of ['', '{', '[]', '{}', 'null', '{"nodes":{}}', '{"nodes":[}', '{"nodes":[]', '{"nodes":[]}x', '{"nodes":[],}', '{"nodes":[{}{}]}', '{"nodes":[{"a":01}]}', '{"nodes":[{"a":tru}]}',
    '{"nodes":[{"a":"\\x"}]}', '{"nodes":[{"a":"\n"}]}', '{"nodes":[{"a":1.}]}', '{"nodes":[{"a":-}]}', '{"nodes":[{"a":"\\u12g4"}]}', `{"nodes":[{"a":${'['.repeat(200)}${']'.repeat(200)}}]}`,
    '{"nodes":5}', '{nodes:[]}', '{"nodes":[]}\0', '\ufeff{"nodes":[]}']) {
    t.equal(native.treeToRows(ID, Buffer.from(json)), DecodeError.tree, json.slice(0, 40))
  }
  for (const [json, count, skipped] of [['{"nodes":[]}\n', 0, 0], [' { "nodes" : [ ] } ', 0, 0], ['{"nodes":null}', 0, 0], ['{"x":[1,{"y":2}],"nodes":[5,null,[],{},"a"],"z":{}}', 0, 5],
    [`{"nodes":[{"name":"a","type":"dir"}],"nodes":[]}`, 0, 0], [`{"nodes":[{"x":${'['.repeat(90)}${']'.repeat(90)},"name":"a","na\\u006de":"b","type":"dir"}]}`, 1, 0]] as const) {
    const view = new TreeRows(native.treeToRows(ID, Buffer.from(json)) as Buffer)
    t.same([view.count, view.skipped], [count, skipped], json.slice(0, 40))
  }
})

t.test('mutated trees are read as the reference reads them, or refused', async t => {
  const { seed, random } = seeded()
  const count = Number(process.env['MUTATIONS'] ?? 2000)
  const original = variedTree()
  let refused = 0, compared = 0
  for (let round = 0; round < count; round++) {
    const json = mutate(original, random)
    const text = json.toString()
    const rows = native.treeToRows(ID, json)
    const isText = Buffer.from(text).equals(json)
    const reference = isText ? referenceTree(ID, text) : undefined
    if (isText) compared++
    if (typeof rows === 'number') {
      refused++
      if (rows !== DecodeError.tree || (isText && reference !== null)) return t.fail(`refused what the reference reads: seed ${seed}, round ${round}`, { json: text })
      continue
    }
    const got = shown(new TreeRows(rows))
    if (!native.verifyRows(rows)) return t.fail(`rows are not sound: seed ${seed}, round ${round}`)
    if (reference !== undefined && JSON.stringify(got, bigints) !== JSON.stringify(reference, bigints)) {
      t.same(got, reference, `seed ${seed}, round ${round}`, { json: text })
      return
    }
  }
  t.pass(`${count} mutations, ${compared} compared, ${refused} refused, seed ${seed}`)
})

const bigints = (_: string, value: unknown) => typeof value === 'bigint' ? `${value}n` : value
