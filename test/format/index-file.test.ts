import t from 'tap'
import { decodeIndexFile, indexBlobs } from '../../src/format/index-file.js'
import { INDEX_RECORD_LENGTH } from '../../src/format/index-record.js'
import { native } from '../../src/native.js'
import { random } from '../fixtures/bytes.js'
import { makePack } from '../fixtures/index-json.js'
import { json } from '../fixtures/memory-repository.js'

const id = (byte: number) => byte.toString(16).padStart(2, '0').repeat(32)
const blob = (byte: number, fields: object = {}) => ({ id: id(byte), type: 'data', offset: 0, length: 100, ...fields })

/** As objects, pack ids and blob ids by their first byte. */
async function decode(source: unknown) {
  const file = await decodeIndexFile('i', Buffer.isBuffer(source) ? source : json(source))
  return {
    packs: Array.from({ length: file.packCount }, (_, i) => file.packs[i * 32]),
    toDelete: [...file.toDelete],
    blobs: [...indexBlobs(file)].map(({ id, ...rest }) => ({ id: id[0], ...rest })),
    skipped: file.skipped,
  }
}

t.test('decodeIndexFile reads packs and blobs, compressed and not', async t => {
  const { packs, blobs, skipped } = await decode({
    supersedes: [id(9)],
    packs: [
      { id: id(1), blobs: [blob(11), blob(12, { type: 'tree', offset: 100, length: 200, uncompressed_length: 5000 })] },
      { id: id(2), blobs: [] },
      { id: id(3), blobs: [blob(11, { offset: 2 ** 40, length: 32 })] },
    ],
  })
  t.strictSame(packs, [1, 2, 3])
  t.strictSame(blobs, [
    { id: 12, pack: 0, type: 'tree', length: 200, plainLength: 5000, offset: 100 },
    { id: 11, pack: 0, type: 'data', length: 100, plainLength: 0, offset: 0 },
    { id: 11, pack: 2, type: 'data', length: 32, plainLength: 0, offset: 2 ** 40 },
  ])
  t.equal(skipped, 0)
})

t.test('keys may come in any order, with escapes, white space and unknown neighbours', async t => {
  const text = `\n{ "time" : {"a":[1,2,{"b":"}]\\""}],"c":-1.5e+3} , "packs":[ {"size":1,"blobs":[ {"length":100,"offset":0,"uncompressed_length":0,"x":[[[]]],
    "type":"tr\\u0065e","id":"${id(7).toUpperCase()}"}\t], "t\\u0069me":null,"\\u0069d":"${id(1)}","more":true} ] }\r\n`
  t.strictSame(await decode(Buffer.from(text)), { packs: [1], toDelete: [0], blobs: [{ id: 7, pack: 0, type: 'tree', length: 100, plainLength: 0, offset: 0 }], skipped: 0 })
})

t.test('rustic\'s packs_to_delete are read and marked', async t => {
  const { packs, toDelete, blobs } = await decode({
    packs: [{ id: id(1), blobs: [blob(11)], time: null, size: 5 }],
    packs_to_delete: [{ id: id(2), time: '2026-11-20T10:00:00Z', size: 100, blobs: [blob(12)] }],
  })
  t.strictSame(packs, [1, 2])
  t.strictSame(toDelete, [0, 1])
  t.strictSame(blobs.map(({ id, pack }) => [id, pack]), [[11, 0], [12, 1]])
})

t.test('empty index files and the oldest form', async t => {
  for (const empty of [{}, { packs: [] }, { packs: null }, { other: 1 }, []]) t.match(await decode(empty), { packs: [], blobs: [], skipped: 0 }, JSON.stringify(empty))
  t.strictSame((await decode([{ id: id(1), blobs: [blob(2)] }])).packs, [1])
  t.strictSame((await decode({ packs: [{ id: id(1), blobs: null }, { id: id(2) }] })).packs, [1, 2], 'packs without blobs')
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
    const { blobs, skipped } = await decode({ packs: [{ id: id(1), blobs: [blob(2), bad, blob(4)] }] })
    t.strictSame(blobs.map(({ id }) => id), [2, 4], name)
    t.equal(skipped, 1, name)
  }
})

t.test('a pack without a good id is left out with its blobs', async t => {
  for (const [name, bad] of Object.entries({ 'bad id': { id: 'x', blobs: [blob(5), blob(6)] }, 'id behind the blobs': { blobs: [blob(5), blob(6)], id: null } })) {
    const { packs, blobs, skipped } = await decode({ packs: [{ id: id(1), blobs: [blob(2)] }, bad, { id: id(3), blobs: [blob(4)] }] })
    t.strictSame(packs, [1, 3], name)
    t.strictSame(blobs.map(({ id, pack }) => [id, pack]), [[2, 0], [4, 1]], name)
    t.equal(skipped, 3, name)
  }
  t.strictSame(await decode({ packs: [5, 'x', null, { id: id(1), blobs: 'none' }] }), { packs: [1], toDelete: [0], blobs: [], skipped: 3 })
})

t.test('what is not JSON of that shape is corrupt', async t => {
  const good = json({ packs: [{ id: id(1), blobs: [blob(2)] }] }).toString()
  for (const text of ['', ' ', 'null', '5', '"packs"', '{', '{"packs"', '{"packs":', '{"packs":5}', '{"packs":{}}', '{packs:[]}', '{"packs":[],}', '{"packs":[1,]}', '{"packs":[1 2]}', '{"packs":[]]',
    '{"packs":[]}x', `${good}${good}`, good.slice(0, -1), good.slice(1), good.replace('"offset"', '"off\nset"'), good.replace('"offset"', '"off\\qset"'), good.replace(':0,', ':00,'), good.replace(':0,', ':-,'),
    good.replace(':0,', ':1.,'), good.replace(':0,', ':tru,'), good.replace(':0,', ':nul,'), good.replace(':0,', ':,'), good.replace(':0,', '0,'), '{"x":' + '['.repeat(5000) + ']'.repeat(5000) + '}',
    '['.repeat(100_000), '{"x":"\\', '{"x":"', '{"x":"\\u00', '{"x":1e}', '{"x":-}', '\ufeff{}', '{}\0', '{"x":"\\ud8"}']) {
    await t.rejects(decodeIndexFile('i', Buffer.from(text)), { code: 'ERR_CORRUPT', file: 'index file i' }, JSON.stringify(text.slice(0, 60)))
  }
})

t.test('the reason says where', async t => {
  for (const [text, reason] of [['{"packs":[', 'not the JSON of an index file at byte 10'], ['{"packs":7}', 'not the JSON of an index file at byte 9']] as const) {
    await t.rejects(decodeIndexFile('i', Buffer.from(text)), { code: 'ERR_CORRUPT', reason }, text)
  }
})

t.test('what is not looked into may be nested 1000 levels deep', async t => {
  for (const [inner, levels] of [['', 1000], ['5', 1000], ['', 1001], ['5', 1001]] as const) {
    const value = '['.repeat(levels) + inner + ']'.repeat(levels)
    for (const text of [`{"x":${value}}`, `{"packs":[{"id":"${id(1)}","x":${value}}]}`, `[{"id":"${id(1)}","blobs":[{"x":${value}}]}]`]) {
      const decoding = decodeIndexFile('i', Buffer.from(text))
      if (levels === 1000) await t.resolves(decoding)
      else await t.rejects(decoding, { code: 'ERR_CORRUPT' })
    }
  }
})

t.test('of a key that comes twice the last value counts, and lists add up', async t => {
  const text = `{"packs":[{"id":"${id(1)}","blobs":[${JSON.stringify(blob(3))}],"blobs":[${JSON.stringify(blob(2)).replace('{', `{"id":5,"type":"x","length":1,`)}]}],
    "packs":[{"id":"${id(2)}","id":"x","blobs":[${JSON.stringify(blob(4))}]}, {"id":null,"id":"${id(5)}"}]}`
  const { packs, blobs, skipped } = await decode(Buffer.from(text))
  t.strictSame([packs, blobs.map(({ id, pack }) => [id, pack]), skipped], [[1, 5], [[2, 0], [3, 0]], 2])
})

t.test('invalid UTF-8 is let through where nothing is looked for', async t => {
  const text = Buffer.from(`{"x\xff\\n":"\xc3","packs":[{"id":"${id(1)}"}]}`, 'latin1')
  t.strictSame((await decode(text)).packs, [1])
})

t.test('blobs are trees first, each by id; copies stay in the order of the file', async t => {
  const next = random(1)
  const packs = Array.from({ length: 40 }, (_, i) => makePack(next, i % 3 === 0 ? 'tree' : 'data', 30))
  // The same ids in another pack, and ids which differ in their last byte only.
  packs.push({ id: id(1), blobs: packs.flatMap(({ blobs }) => blobs.slice(0, 2)) })
  packs.push({ id: id(2), blobs: [3, 1, 2, 0].map(last => ({ id: id(7).slice(2) + `0${last}`, type: 'tree', offset: last, length: 50 })) })
  const all = packs.flatMap(({ blobs }, pack) => blobs.map(({ id, type, offset, length, uncompressed_length: plainLength = 0 }) => ({ id, pack, type, length, plainLength, offset })))
  const byId = (type: string) => all.filter(blob => blob.type === type).sort((a, b) => a.id < b.id ? -1 : a.id === b.id ? 0 : 1)
  const file = await decodeIndexFile('i', json({ packs }))
  t.strictSame([...indexBlobs(file)].map(blob => ({ ...blob, id: blob.id.toString('hex') })), [...byId('tree'), ...byId('data')])
  t.equal(file.treeCount, byId('tree').length)
})

t.test('buffers are of just the size and belong to nobody else', async t => {
  const packs = Array.from({ length: 300 }, (_, p) => ({ id: id(p & 255), blobs: Array.from({ length: 170 }, (_, b) => ({ id: id(b), type: 'data', offset: 0, length: 32 })) }))
  const file = await decodeIndexFile('i', json({ packs }))
  t.equal(file.blobCount, 51_000)
  t.equal(file.blobs.buffer.byteLength, 51_000 * INDEX_RECORD_LENGTH)
  t.equal(file.packs.buffer.byteLength, 300 * 32)
  t.equal(file.toDelete.buffer.byteLength, 300)
  structuredClone(file, { transfer: [file.blobs.buffer as ArrayBuffer, file.packs.buffer as ArrayBuffer] })
  t.equal(file.blobs.length, 0, 'they can be handed over')
})

t.test('several are decoded at once', async t => {
  const files = await Promise.all(Array.from({ length: 20 }, (_, i) => decode({ packs: [{ id: id(i), blobs: [blob(i + 1)] }] })))
  t.strictSame(files.map(({ packs, blobs }) => [packs, blobs[0].id]), files.map((_, i) => [[i], i + 1]))
  t.throws(() => native.decodeIndexFile('{}' as unknown as Uint8Array), TypeError)
})
