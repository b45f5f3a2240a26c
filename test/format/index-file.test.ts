import t from 'tap'
import { decodeIndexFile, INDEX_RECORD_LENGTH, indexBlobs } from '../../src/format/index-file.js'
import { json } from '../fixtures/memory-repository.js'

const id = (byte: number) => byte.toString(16).padStart(2, '0').repeat(32)
const blob = (byte: number, fields: object = {}) => ({ id: id(byte), type: 'data', offset: 0, length: 100, ...fields })

/** As objects, pack ids and blob ids by their first byte. */
function decode(source: unknown) {
  const file = decodeIndexFile('i', Buffer.isBuffer(source) ? source : json(source))
  return {
    packs: Array.from({ length: file.packCount }, (_, i) => file.packs[i * 32]),
    toDelete: [...file.toDelete],
    blobs: [...indexBlobs(file)].map(({ id, ...rest }) => ({ id: id[0], ...rest })),
    skipped: file.skipped,
  }
}

t.test('decodeIndexFile reads packs and blobs, compressed and not', async t => {
  const { packs, blobs, skipped } = decode({
    supersedes: [id(9)],
    packs: [
      { id: id(1), blobs: [blob(11), blob(12, { type: 'tree', offset: 100, length: 200, uncompressed_length: 5000 })] },
      { id: id(2), blobs: [] },
      { id: id(3), blobs: [blob(11, { offset: 2 ** 40, length: 32 })] },
    ],
  })
  t.strictSame(packs, [1, 2, 3])
  t.strictSame(blobs, [
    { id: 11, pack: 0, type: 'data', length: 100, plainLength: 0, offset: 0 },
    { id: 12, pack: 0, type: 'tree', length: 200, plainLength: 5000, offset: 100 },
    { id: 11, pack: 2, type: 'data', length: 32, plainLength: 0, offset: 2 ** 40 },
  ])
  t.equal(skipped, 0)
})

t.test('keys may come in any order, with escapes, white space and unknown neighbours', async t => {
  const text = `\n{ "time" : {"a":[1,2,{"b":"}]\\""}],"c":-1.5e+3} , "packs":[ {"size":1,"blobs":[ {"length":100,"offset":0,"uncompressed_length":0,"x":[[[]]],
    "type":"tr\\u0065e","id":"${id(7).toUpperCase()}"}\t], "t\\u0069me":null,"\\u0069d":"${id(1)}","more":true} ] }\r\n`
  t.strictSame(decode(Buffer.from(text)), { packs: [1], toDelete: [0], blobs: [{ id: 7, pack: 0, type: 'tree', length: 100, plainLength: 0, offset: 0 }], skipped: 0 })
})

t.test('rustic\'s packs_to_delete are read and marked', async t => {
  const { packs, toDelete, blobs } = decode({
    packs: [{ id: id(1), blobs: [blob(11)], time: null, size: 5 }],
    packs_to_delete: [{ id: id(2), time: '2026-11-20T10:00:00Z', size: 100, blobs: [blob(12)] }],
  })
  t.strictSame(packs, [1, 2])
  t.strictSame(toDelete, [0, 1])
  t.strictSame(blobs.map(({ id, pack }) => [id, pack]), [[11, 0], [12, 1]])
})

t.test('empty index files and the oldest form', async t => {
  for (const empty of [{}, { packs: [] }, { packs: null }, { other: 1 }, []]) t.match(decode(empty), { packs: [], blobs: [], skipped: 0 }, JSON.stringify(empty))
  t.strictSame(decode([{ id: id(1), blobs: [blob(2)] }]).packs, [1])
  t.strictSame(decode({ packs: [{ id: id(1), blobs: null }, { id: id(2) }] }).packs, [1, 2], 'packs without blobs')
})

t.test('one bad blob is left out alone, and counted', async t => {
  for (const [name, bad] of Object.entries({
    'short id': blob(3, { id: id(3).slice(2) }), 'id not hex': blob(3, { id: 'g'.repeat(64) }), 'id a number': blob(3, { id: 5 }), 'no id': { ...blob(3), id: undefined },
    'unknown type': blob(3, { type: 'dat' }), 'type null': blob(3, { type: null }), 'no type': { ...blob(3), type: undefined },
    'negative offset': blob(3, { offset: -1 }), 'offset not whole': blob(3, { offset: 1.5 }), 'offset as text': blob(3, { offset: '0' }),
    'offset beyond exact numbers': blob(3, { offset: 2 ** 60 }), 'end beyond exact numbers': blob(3, { offset: Number.MAX_SAFE_INTEGER - 50 }), 'no offset': { ...blob(3), offset: undefined },
    'length below IV and MAC': blob(3, { length: 31 }), 'huge length': blob(3, { length: 2 ** 31 }), 'no length': { ...blob(3), length: undefined },
    'huge plain length': blob(3, { uncompressed_length: 2 ** 40 }), 'negative plain length': blob(3, { uncompressed_length: -5 }), 'plain length as text': blob(3, { uncompressed_length: '5' }),
    'a number': 5, 'a list': [blob(3)], 'text': 'x',
  })) {
    const { blobs, skipped } = decode({ packs: [{ id: id(1), blobs: [blob(2), bad, blob(4)] }] })
    t.strictSame(blobs.map(({ id }) => id), [2, 4], name)
    t.equal(skipped, 1, name)
  }
})

t.test('a pack without a good id is left out with its blobs', async t => {
  for (const [name, bad] of Object.entries({ 'bad id': { id: 'x', blobs: [blob(5), blob(6)] }, 'id behind the blobs': { blobs: [blob(5), blob(6)], id: null } })) {
    const { packs, blobs, skipped } = decode({ packs: [{ id: id(1), blobs: [blob(2)] }, bad, { id: id(3), blobs: [blob(4)] }] })
    t.strictSame(packs, [1, 3], name)
    t.strictSame(blobs.map(({ id, pack }) => [id, pack]), [[2, 0], [4, 1]], name)
    t.equal(skipped, 3, name)
  }
  t.strictSame(decode({ packs: [5, 'x', null, { id: id(1), blobs: 'none' }] }), { packs: [1], toDelete: [0], blobs: [], skipped: 3 })
})

t.test('what is not JSON of that shape is corrupt', async t => {
  const good = json({ packs: [{ id: id(1), blobs: [blob(2)] }] }).toString()
  for (const text of ['', ' ', 'null', '5', '"packs"', '{', '{"packs"', '{"packs":', '{"packs":5}', '{"packs":{}}', '{packs:[]}', '{"packs":[],}', '{"packs":[1,]}', '{"packs":[1 2]}', '{"packs":[]]',
    '{"packs":[]}x', `${good}${good}`, good.slice(0, -1), good.slice(1), good.replace('"offset"', '"off\nset"'), good.replace('"offset"', '"off\\qset"'), good.replace(':0,', ':00,'), good.replace(':0,', ':-,'),
    good.replace(':0,', ':1.,'), good.replace(':0,', ':tru,'), good.replace(':0,', ':nul,'), good.replace(':0,', ':,'), good.replace(':0,', '0,'), '{"x":' + '['.repeat(5000) + ']'.repeat(5000) + '}',
    '['.repeat(100_000), '{"x":"\\', '{"x":"', '{"x":"\\u00', '{"x":1e}', '{"x":-}', '\ufeff{}']) {
    t.throws(() => decodeIndexFile('i', Buffer.from(text)), { code: 'ERR_CORRUPT', file: 'index file i' }, text.slice(0, 60))
  }
})

t.test('what is kept is bounded by the file', async t => {
  const packs = Array.from({ length: 300 }, (_, p) => ({ id: id(p & 255), blobs: Array.from({ length: 170 }, (_, b) => ({ id: id(b), type: 'data', offset: 0, length: 32 })) }))
  const source = json({ packs })
  const file = decodeIndexFile('i', source)
  t.equal(file.blobCount, 51_000)
  t.equal(file.blobs.length, 51_000 * INDEX_RECORD_LENGTH)
  t.ok(file.blobs.buffer.byteLength + file.packs.buffer.byteLength < 2 * source.length, 'memory')
})
