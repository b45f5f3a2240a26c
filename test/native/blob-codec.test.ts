import { createHash } from 'node:crypto'
import t from 'tap'
import { TreeRows } from '../../src/format/tree-rows.js'
import { DecodeError, native, type NativeBlob } from '../../src/native.js'
import { randomBytes } from '../fixtures/bytes.js'
import { variedTree } from '../fixtures/make-tree.js'
import { mutate } from '../fixtures/mutate.js'
import { seal, unseal, zstdFrame, zstdStored } from '../fixtures/restic-crypto.js'
import { seeded } from '../fixtures/seeded.js'

const KEYS = randomBytes('keys', 64)
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest()
const iv = (n: number) => randomBytes(`iv ${n}`, 16)

interface Stored { sealed: Buffer, plainLength: number, id: Buffer }
// The independent seal() is slow; the first test shows that it makes no difference.
const stored = (plain: Buffer): Stored => ({ sealed: native.encrypt(KEYS, plain), plainLength: 0, id: sha256(plain) })
const compressed = (plain: Buffer, frame = zstdStored(plain), plainLength = plain.length): Stored => ({ sealed: native.encrypt(KEYS, frame), plainLength, id: sha256(plain) })

/** As a run of a pack, with some bytes before it. */
function packed(blobs: readonly Stored[]): [Buffer, Uint32Array, Buffer] {
  let at = 7
  const entries = blobs.flatMap(({ sealed, plainLength }) => {
    const entry = [at, sealed.length, plainLength]
    at += sealed.length
    return entry
  })
  return [Buffer.concat([Buffer.alloc(7), ...blobs.map(blob => blob.sealed)]), Uint32Array.from(entries), Buffer.concat(blobs.map(blob => blob.id))]
}
async function decode(blobs: readonly Stored[]): Promise<(Buffer | number)[]> {
  return (await native.decodeBlobs(KEYS, ...packed(blobs))).map(take)
}
function take(result: NativeBlob | number): Buffer | number {
  if (typeof result === 'number') return result
  const bytes = result.bytes()
  result.free()
  return bytes
}
const decodeOne = async (blob: Stored) => (await decode([blob]))[0]!

t.test('what is encrypted here is opened by an independent implementation, and the other way round', async t => {
  for (const length of [0, 1, 15, 16, 17, 63, 64, 65, 1000, 4096, 20_001]) {
    const plain = randomBytes(length, length)
    t.same(unseal(KEYS, native.encrypt(KEYS, plain)), plain, `encrypt ${length}`)
    t.same(await decodeOne({ ...stored(plain), sealed: seal(KEYS, iv(length), plain) }), plain, `decode ${length}`)
    t.same(await native.decryptFile(KEYS, seal(KEYS, iv(length), plain), { zstd: false, maxLength: length }), plain, `decryptFile ${length}`)
  }
  t.notSame(native.encrypt(KEYS, Buffer.from('same')), native.encrypt(KEYS, Buffer.from('same')), 'a new IV each time')
})

t.test('many blobs of one range come back in order, whatever became of the others', async t => {
  const plains = Array.from({ length: 300 }, (_, i) => randomBytes(i, i % 7 === 0 ? 120_000 : i * 11))
  const blobs = plains.map((plain, i) => i % 3 === 0 ? compressed(plain) : stored(plain))
  blobs[0] = stored(plains[0]!)
  blobs[100]!.sealed[40]! ^= 1
  blobs[200]!.id[5]! ^= 1
  const results = await decode(blobs)
  results.forEach((result, i) => {
    const expected = i === 100 ? DecodeError.mac : i === 200 ? DecodeError.hash : plains[i]
    if (typeof expected === 'number' ? result !== expected : !Buffer.isBuffer(result) || !result.equals(expected!)) t.fail(`blob ${i}`)
  })
  t.same(await native.decodeBlobs(KEYS, Buffer.alloc(0), new Uint32Array(0), Buffer.alloc(0)), [])
})

t.test('every refusal has its reason', async t => {
  const plain = Buffer.from('the quick brown fox'.repeat(50)), frame = zstdStored(plain)
  const changed = (blob: Stored, change: (bytes: Buffer) => void) => {
    change(blob.sealed)
    return blob
  }
  const { mac, zstd, hash, range, memory } = DecodeError
  for (const [name, blob, error] of [
    ['a bit of the IV', changed(stored(plain), bytes => { bytes[0]! ^= 1 }), mac],
    ['a bit of the ciphertext', changed(stored(plain), bytes => { bytes[20]! ^= 128 }), mac],
    ['a bit of the MAC', changed(stored(plain), bytes => { bytes[bytes.length - 1]! ^= 1 }), mac],
    ['an IV of zeros', { ...stored(plain), sealed: seal(KEYS, Buffer.alloc(16), plain) }, mac],
    ['another id', { ...stored(plain), id: sha256(Buffer.from('x')) }, hash],
    ['shorter than IV and MAC', { ...stored(plain), sealed: Buffer.alloc(31) }, range],
    ['longer than announced', compressed(plain, frame, plain.length - 1), zstd],
    ['shorter than announced', compressed(plain, frame, plain.length + 1), zstd],
    ['longer, length not in the frame', compressed(plain, zstdStored(plain, false), plain.length - 1), zstd],
    ['shorter, length not in the frame', compressed(plain, zstdStored(plain, false), plain.length + 1), zstd],
    ['something behind the frame', compressed(plain, Buffer.concat([frame, Buffer.from('garbage')])), zstd],
    ['a frame cut short', compressed(plain, frame.subarray(0, -1)), zstd],
    ['no frame', compressed(plain, plain), zstd],
    ['an empty frame', compressed(plain, Buffer.alloc(0)), zstd],
    ['compressed, but said not to be', compressed(plain, frame, 0), hash],
    ['a gigabyte in a few bytes', compressed(plain, zstdFrame(Array.from({ length: 8 }, () => ({ repeat: 0, times: 131_072 })), 2 ** 30), 100), zstd],
    ['a length above the limit', compressed(plain, frame, 2 ** 28 + 1), memory],
    ['a length at the limit that is not there', compressed(plain, zstdStored(plain, false), 2 ** 28), zstd],
  ] as const) t.equal(await decodeOne(blob), error, name)
  t.same(await decodeOne(compressed(plain, zstdStored(plain, false))), plain, 'a frame need not say its length')
})

t.test('entries outside of the source', async t => {
  const { sealed, id } = stored(Buffer.from('x'))
  for (const entry of [[0, 34, 0], [33, 1, 0], [34, 0, 0], [0xffffffff, 0xffffffff, 0], [1, 0xffffffff, 0], [0, 0, 0]]) {
    t.same(await native.decodeBlobs(KEYS, sealed, Uint32Array.from(entry), id), [DecodeError.range], entry.join())
  }
})

t.test('arguments that are not what they must be', async t => {
  const decodeBlobs = native.decodeBlobs as (...args: unknown[]) => unknown
  for (const args of [[], [KEYS], [KEYS.subarray(1), KEYS, new Uint32Array(0), KEYS], [KEYS, KEYS, new Uint32Array(2), KEYS], [KEYS, KEYS, new Uint32Array(3), KEYS], [KEYS, KEYS, [0, 0, 0], KEYS],
    [KEYS, 'x', new Uint32Array(0), Buffer.alloc(0)], [KEYS, KEYS, new Uint16Array(3), Buffer.alloc(32)]]) t.throws(() => decodeBlobs(...args), TypeError)
  t.throws(() => (native.decryptFile as (...args: unknown[]) => unknown)(KEYS, KEYS, {}), TypeError)
})

t.test('files: zstd behind its mark, up to the length allowed', async t => {
  const text = Buffer.from('{"text":"' + 'y'.repeat(3_000_000) + '"}')
  const file = (plain: Uint8Array) => native.encrypt(KEYS, plain)
  const marked = (frame: Buffer) => file(Buffer.concat([Buffer.from([2]), frame]))
  const open = (bytes: Buffer, maxLength: number, zstd = true) => native.decryptFile(KEYS, bytes, { zstd, maxLength })
  const long = zstdFrame(Array.from({ length: 80 }, () => ({ repeat: 7, times: 131_072 })))
  for (const [name, got, expected] of [
    ['plain JSON', open(file(text), text.length), text],
    ['plain and too long', open(file(text), text.length - 1), DecodeError.memory],
    ['a frame that says its length', open(marked(zstdStored(text)), text.length), text],
    ['a frame that does not', open(marked(zstdStored(text, false)), text.length), text],
    ['a frame that is longer than it says', open(marked(zstdFrame([{ raw: text.subarray(0, 9) }], 5)), 1000), DecodeError.zstd],
    ['a frame that is shorter than it says', open(marked(zstdFrame([{ raw: text.subarray(0, 5) }], 9)), 1000), DecodeError.zstd],
    ['a frame longer than allowed', open(marked(zstdStored(text)), text.length - 1), DecodeError.memory],
    ['a frame longer than allowed that does not say so', open(marked(zstdStored(text, false)), text.length - 1), DecodeError.memory],
    ['10 MiB in a few bytes', open(marked(long), 80 * 131_072), Buffer.alloc(80 * 131_072, 7)],
    ['10 MiB in a few bytes, not allowed', open(marked(long), 80 * 131_072 - 1), DecodeError.memory],
    ['a frame cut short', open(marked(zstdStored(text).subarray(0, -1)), 2 ** 28), DecodeError.zstd],
    ['nothing behind the mark', open(file(Buffer.from([2])), 100), DecodeError.zstd],
    ['an empty frame', open(marked(zstdStored(Buffer.alloc(0))), 0), Buffer.alloc(0)],
    ['two frames', open(marked(Buffer.concat([zstdStored(Buffer.from('a')), zstdStored(Buffer.from('b'))])), 9), Buffer.from('ab')],
    ['no zstd asked for', open(file(Buffer.from([2, 3])), 100, false), Buffer.from([2, 3])],
    ['a bit wrong', open(Buffer.concat([file(text).subarray(0, -1), Buffer.from([0])]), 2 ** 28), DecodeError.mac],
    ['nothing', open(Buffer.alloc(0), 100), DecodeError.range],
  ] as const) {
    const result = await got
    if (typeof expected === 'number') t.equal(result, expected, name)
    else t.ok(Buffer.isBuffer(result) && result.equals(expected), name)
  }
})

t.test('trees become rows, and what is no tree is refused', async t => {
  const json = variedTree()
  const [rows, none] = await native.decodeTrees(KEYS, ...packed([compressed(json), stored(Buffer.from('{"nodes":5}'))])) as [Buffer, number]
  t.same(rows, native.treeToRows(sha256(json), json))
  t.equal(none, DecodeError.tree)
  const big = Buffer.from(`{"nodes":[${Array.from({ length: 5000 }, (_, i) => `{"name":"${String(i).padStart(5, '0')}","type":"file","content":["${'00'.repeat(32)}"]}`).join()}]}`)
  const [view] = (await native.decodeTrees(KEYS, ...packed([stored(big)]))).map(result => new TreeRows(result as Buffer))
  t.same([view!.count, native.verifyRows(view!.bytes), view!.find(Buffer.from('04999'))], [5000, true, 4999])
})

t.test('mutated blobs are refused', async t => {
  const { seed, random } = seeded()
  const count = Number(process.env['MUTATIONS'] ?? 2000)
  const plain = Buffer.from('the quick brown fox'.repeat(20))
  const goods = [stored(plain), compressed(plain)]
  const bad: Stored[] = []
  while (bad.length < count) {
    const good = goods[bad.length % 2]!
    const sealed = mutate(good.sealed, random)
    if (!sealed.equals(good.sealed)) bad.push({ ...good, sealed })
  }
  const results = await decode(bad)
  t.equal(results.filter(result => typeof result === 'number').length, count, `seed ${seed}`)
})

t.test('mutated frames with a good MAC give the right bytes or are refused', async t => {
  const { seed, random } = seeded()
  const count = Number(process.env['MUTATIONS'] ?? 2000)
  const plain = Buffer.from('abcdefgh'.repeat(40))
  const frame = zstdFrame([{ raw: plain.subarray(0, 100) }, { repeat: plain[100]!, times: 1 }, { raw: plain.subarray(101) }], plain.length)
  const results = await decode(Array.from({ length: count }, () => compressed(plain, mutate(frame, random), plain.length)))
  t.ok(results.every(result => typeof result === 'number' || result.equals(plain)), `seed ${seed}, ${results.filter(Buffer.isBuffer).length} right`)
  const files = await Promise.all(Array.from({ length: count }, () => native.decryptFile(KEYS, native.encrypt(KEYS, Buffer.concat([Buffer.from([2]), mutate(frame, random)])), { zstd: true, maxLength: 5000 })))
  t.ok(files.every(result => typeof result === 'number' || result.length <= 5000), `files, seed ${seed}`)
})
