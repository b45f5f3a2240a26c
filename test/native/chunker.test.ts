import t from 'tap'
import { native } from '../../src/native.js'
import { randomBytes } from '../fixtures/bytes.js'

const POLYNOMIAL = 0x3da3358b4dc173n
const MIN = 512 << 10, MAX = 8 << 20, WINDOW = 64
const MASK = (1 << 20) - 1

/**
 * The chunker as it is described, byte by byte, in 32-bit halves: a window of 64 bytes, first filled with zeros and a one, and a fingerprint from which the byte
 * that leaves is taken away. Only from the last 64 bytes before the least length on, which is what the window holds then.
 */
function reference(bytes: Buffer, polynomial: bigint): number[] {
  const degree = BigInt(polynomial.toString(2).length - 1)
  const reduce = (value: bigint) => {
    for (let at = BigInt(value.toString(2).length - 1); at >= degree; at = BigInt(value.toString(2).length - 1)) {
      value ^= polynomial << at - degree
      if (value === 0n) break
    }
    return value
  }
  const halves = (table: bigint[]) => ({ high: Uint32Array.from(table, value => Number(value >> 32n)), low: Uint32Array.from(table, value => Number(value & 0xffffffffn)) })
  const all = Array.from({ length: 256 }, (_, byte) => BigInt(byte))
  const out = halves(all.map(byte => {
    let hash = reduce(byte)
    for (let i = 1; i < WINDOW; i++) hash = reduce(hash << 8n)
    return hash
  }))
  const mod = halves(all.map(byte => reduce(byte << degree) | byte << degree))
  const shift = Number(degree) - 8 - 32
  const ends: number[] = []
  for (let start = 0; start < bytes.length;) {
    const window = new Uint8Array(WINDOW)
    let high = 0, low = 0, place = 0
    const slide = (byte: number) => {
      const left = window[place]!
      window[place] = byte
      place = (place + 1) % WINDOW
      high ^= out.high[left]!
      low ^= out.low[left]!
      const index = high >>> shift
      high = (high << 8 | low >>> 24) ^ mod.high[index]!
      low = (low << 8 | byte) ^ mod.low[index]!
    }
    slide(1)
    let at = start + MIN - WINDOW
    for (; at < bytes.length; at++) {
      slide(bytes[at]!)
      const length = at + 1 - start
      if (length >= MIN && ((low & MASK) === 0 || length >= MAX)) break
    }
    start = Math.min(at + 1, bytes.length)
    ends.push(start)
  }
  return ends
}

t.test('cuts where the description says', async t => {
  for (const [name, bytes] of Object.entries({
    'random bytes': randomBytes('chunker', 24 << 20), 'empty': Buffer.alloc(0), 'one byte': Buffer.from('x'), 'just the least length': randomBytes('min', MIN), 'one more': randomBytes('min', MIN + 1),
    'zeros, then random': Buffer.concat([Buffer.alloc(3 * MIN + 17), randomBytes('tail', 3 << 20)]), 'a pattern without any cut': Buffer.alloc(20 << 20, 'abc'),
  })) t.strictSame([...await new native.Chunker(POLYNOMIAL).split(bytes)], reference(bytes, POLYNOMIAL), name)
})

t.test('cuts where the description says, with other polynomials', async t => {
  const bytes = randomBytes('others', 12 << 20)
  for (const polynomial of [0x2482734cacca49n, 0x3f63dfbf84af3bn]) t.strictSame([...await new native.Chunker(polynomial).split(bytes)], reference(bytes, polynomial), polynomial.toString(16))
})

t.test('zeros are cut at the least length: chunks of zeros are all the same', async t => {
  t.strictSame([...await new native.Chunker(POLYNOMIAL).split(Buffer.alloc(4 * MIN))], [MIN, 2 * MIN, 3 * MIN, 4 * MIN])
})

t.test('the same bytes behind other ones are cut at the same places', async t => {
  const chunker = new native.Chunker(POLYNOMIAL)
  const bytes = randomBytes('moved', 16 << 20)
  const ends = new Set(await chunker.split(bytes))
  const moved = [...await chunker.split(Buffer.concat([Buffer.from('some bytes in front'), bytes]))].map(end => end - 19)
  t.ok(moved.filter(end => ends.has(end)).length >= ends.size - 2, `${ends.size} chunks`)
})

t.test('a polynomial that is none is refused', async t => {
  for (const polynomial of [0n, 1n, 0x7fn, 1n << 54n, 1n << 63n]) t.throws(() => new native.Chunker(polynomial), TypeError, String(polynomial))
})
