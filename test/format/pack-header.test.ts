import t from 'tap'
import { decodePackHeader, MAX_PACK_HEADER_LENGTH, packHeaderLength } from '../../src/format/pack-header.js'

const id = (byte: number) => Buffer.alloc(32, byte)
const u32 = (value: number) => { const bytes = Buffer.alloc(4); bytes.writeUInt32LE(value); return bytes }
const plain = (type: 0 | 1, length: number, byte: number) => Buffer.concat([Buffer.from([type]), u32(length), id(byte)])
const compressed = (type: 2 | 3, length: number, plainLength: number, byte: number) => Buffer.concat([Buffer.from([type]), u32(length), u32(plainLength), id(byte)])

t.test('decodePackHeader reads entries of all types; offsets are the running sum', async t => {
  const header = Buffer.concat([plain(0, 100, 1), compressed(3, 40, 2 ** 30, 2), plain(1, 32, 3), compressed(2, 1000, 999, 4)])
  const entries = decodePackHeader('p', header, 1172)
  t.strictSame(entries.map(({ id, ...rest }) => ({ ...rest, id: id[0] })), [
    { type: 'data', offset: 0, length: 100, plainLength: 0, id: 1 },
    { type: 'tree', offset: 100, length: 40, plainLength: 2 ** 30, id: 2 },
    { type: 'tree', offset: 140, length: 32, plainLength: 0, id: 3 },
    { type: 'data', offset: 172, length: 1000, plainLength: 999, id: 4 },
  ])
  header.fill(0)
  t.ok(entries[0].id.equals(id(1)), 'the result does not alias the header')
  t.strictSame(decodePackHeader('p', Buffer.alloc(0)), [])
})

t.test('decodePackHeader rejects damage', async t => {
  const good = Buffer.concat([plain(0, 100, 1), compressed(3, 40, 200, 2)])
  for (const [name, damaged, reason] of [
    ['ends mid-entry', good.subarray(0, -1), 'header entry needs 41 bytes, got 40'],
    ['ends after a type', Buffer.concat([good, Buffer.from([0])]), 'header entry needs 37 bytes, got 1'],
    ['unknown type', Buffer.concat([good, Buffer.from([0xae])]), 'blob type 174 in the header'],
    ['a blob without room for its MAC', plain(0, 31, 1), 'blob of 31 bytes'],
    ['an impossible plain length', compressed(2, 100, 0xffffffff, 1), 'blob of 4294967295 bytes'],
    ['blobs that run into the header', Buffer.concat([plain(0, 100, 1), plain(0, 41, 1)]), 'blobs end behind byte 140'],
  ] as const) t.throws(() => decodePackHeader('p', damaged, 140), { code: 'ERR_CORRUPT', file: 'pack p', reason }, name)
})

t.test('packHeaderLength believes only what fits', async t => {
  t.equal(packHeaderLength('p', Buffer.concat([Buffer.alloc(500), u32(69)]), 1000), 69)
  for (const [length, packLength] of [[0, 1000], [68, 1000], [997, 1000], [2 ** 32 - 1, 2 ** 40], [MAX_PACK_HEADER_LENGTH + 1, 2 ** 30], [69, 100]]) {
    t.throws(() => packHeaderLength('p', u32(length), packLength), { code: 'ERR_CORRUPT' }, `${length} of ${packLength}`)
  }
  t.equal(packHeaderLength('p', u32(996), 1000), 996)
  t.throws(() => packHeaderLength('p', Buffer.alloc(3), 1000), { code: 'ERR_CORRUPT' }, 'a tail of three bytes')
})
