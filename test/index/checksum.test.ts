import t from 'tap'
import { isLocation, isPack, locationChecksum, packChecksum, rowsChecksum, textChecksum } from '../../src/index/checksum.js'
import { randomBytes } from '../fixtures/bytes.js'
import { seeded } from '../fixtures/seeded.js'

const { seed, random } = seeded()
t.comment(`SEED=${seed}`)

t.test('every flipped bit of a place is seen', async t => {
  for (let round = 0; round < 20; round++) {
    const id = randomBytes(`${seed} ${round}`, 32)
    const place = [1 + Math.floor(random() * 2 ** 30), Math.floor(random() * 2 ** 40), Math.floor(random() * 2 ** 26), Math.floor(random() * 2 ** 26)] as const
    const checksum = locationChecksum(id, ...place)
    t.ok(isLocation(id, ...place, checksum))
    let missed = 0
    for (let bit = 0; bit < 256; bit++) {
      const flipped = Buffer.from(id)
      flipped[bit >> 3] ^= 1 << (bit & 7)
      if (isLocation(flipped, ...place, checksum)) missed++
    }
    place.forEach((value, i) => {
      for (let bit = 0; bit < 52; bit++) {
        const changed = Number(BigInt(value) ^ (1n << BigInt(bit)))
        if (isLocation(id, ...place.with(i, changed) as [number, number, number, number], checksum)) missed++
      }
    })
    if (missed > 0) t.fail(`${missed} not seen, id ${id.toString('hex')}, place ${place}`)
  }
})

t.test('a value of another type is no place', async t => {
  const id = randomBytes(seed, 32)
  const checksum = locationChecksum(id, 7, 0, 100, 0)
  t.ok(isLocation(id, 7, 0, 100, 0, checksum))
  for (const [name, offset] of Object.entries({ null: null, text: 'somewhere', fraction: 0.5, bytes: Buffer.alloc(0), infinity: Infinity })) {
    t.notOk(isLocation(id, 7, offset as number, 100, 0, checksum), name)
  }
  t.notOk(isLocation(id.subarray(0, 31), 7, 0, 100, 0, checksum), 'an id cut short')
  t.ok(isPack(7, id, packChecksum(7, id)))
  t.notOk(isPack(8, id, packChecksum(7, id)))
  t.notOk(isPack(7, 'x'.repeat(32) as unknown as Uint8Array, packChecksum(7, id)))
})

t.test('texts are bound to their places', async t => {
  t.not(textChecksum('ab', 'c'), textChecksum('a', 'bc'))
  t.not(textChecksum('a', 'b'), textChecksum('b', 'a'))
  t.throws(() => textChecksum(null as unknown as string), TypeError)
})

t.test('rows are bound to their tree', async t => {
  const [one, two] = [randomBytes('one', 32), randomBytes('two', 32)]
  const rows = randomBytes('rows', 100)
  t.not(rowsChecksum(one, rows), rowsChecksum(two, rows))
})
