import t from 'tap'
import type { Near } from '../../src/backend/backend.js'
import { DaybookError } from '../../src/errors.js'
import { AheadReader } from '../../src/repository/ahead-reader.js'
import { BlobLoader } from '../../src/repository/blob-loader.js'
import { silentLogger } from '../../src/util/log.js'
import { randomBytes } from '../fixtures/bytes.js'
import { FakePacks, idOf } from '../fixtures/fake-packs.js'
import { eventually } from '../fixtures/run.js'

// Ranges brought from afar into a cache that is near, which here is a list of ranges.

class Place {
  readonly packs = new FakePacks()
  readonly abort = new AbortController()
  readonly held: { pack: string, from: number, to: number }[] = []
  /** does the cache keep what is read? */
  keeps = true
  ahead = 1 << 30
  readonly backend = Object.assign(this.packs.backend, { near: {
    look: () => null,
    has: (pack, offset, length) => this.held.some(range => range.pack === pack && range.from <= offset && range.to >= offset + length),
    coming: (...range: [string, number, number]) => this.backend.near.has(...range),
    ahead: 0,
  } as Near })
  readonly reader: AheadReader

  constructor(inFlightBytes?: number) {
    Object.defineProperty(this.backend.near, 'ahead', { get: () => this.ahead })
    this.packs.backend.intercept = async ({ pack, offset, length }) => { if (this.keeps) this.held.push({ pack, from: offset, to: offset + length }) }
    this.reader = new AheadReader({ backend: this.backend, index: this.packs.index, signal: this.abort.signal, inFlightBytes })
  }

  /** of blobs in memory, by their contents */
  bring(blobs: readonly Buffer[]): Promise<void> { return this.reader.bring(blobs.map(blob => this.packs.index.locate(idOf(blob)))) }
  has(blob: Buffer): boolean {
    const [{ pack, offset, length }] = this.packs.index.locate(idOf(blob))
    return this.backend.near.has(this.packs.index.packName(pack), offset, length)
  }
}
const plains = (name: string, count: number, length = 1000) => Array.from({ length: count }, (_, i) => randomBytes(`${name} ${i}`, length))

t.test('what is missing comes in few reads, what is near is left alone', async t => {
  const place = new Place()
  const [first, second] = [plains('a', 100), plains('b', 100)]
  place.packs.add(first)
  place.packs.add(second)
  await place.bring([...first.slice(0, 50), ...second.slice(20)])
  t.strictSame(place.packs.backend.reads.map(({ length }) => length), [50 * 1032, 80 * 1032], 'one of each pack')
  t.ok([...first.slice(0, 50), ...second.slice(20)].every(blob => place.has(blob)))
  await place.bring(first)
  t.equal(place.packs.backend.reads.at(-1)!.length, 50 * 1032, 'the other half')
  await place.bring([...first, ...second.slice(20)])
  t.equal(place.packs.backend.reads.length, 3, 'nothing twice')
})

t.test('one connection is left to those who wait, and no more bytes are under way than allowed', async t => {
  const place = new Place(300_000)
  let underWay = 0
  let most = 0
  const kept = place.packs.backend.intercept
  place.packs.backend.intercept = async read => {
    most = Math.max(most, underWay += read.length)
    await new Promise(resolve => setTimeout(resolve, 5))
    underWay -= read.length
    return kept(read, undefined)
  }
  const small = Array.from({ length: 20 }, (_, i) => plains(`small ${i}`, 1)).flat()
  for (const blob of small) place.packs.add([blob])
  await place.bring(small)
  t.equal(place.packs.backend.mostAtOnce, place.backend.connections - 1)
  const large = Array.from({ length: 6 }, (_, i) => plains(`large ${i}`, 1, 200_000)).flat()
  for (const blob of large) place.packs.add([blob])
  most = 0
  await place.bring(large)
  t.equal(most, 2 * 200_032, 'a read may begin while there is room')
  t.ok([...small, ...large].every(blob => place.has(blob)))
})

t.test('what cannot be had is no error here', async t => {
  const place = new Place()
  const blobs = plains('gone', 3)
  const packs = blobs.map(blob => place.packs.add([blob]))
  place.packs.remove(packs[0])
  const kept = place.packs.backend.intercept
  place.packs.backend.intercept = async (read, signal) => {
    if (read.pack === packs[1].name) throw new DaybookError('ERR_UNREACHABLE', 'no answer')
    return kept(read, signal)
  }
  await place.bring([...blobs, randomBytes('unknown', 10)])
  t.ok(place.has(blobs[2]))
})

t.test('a cache that does not keep what is read: for some time, nothing is read for its sake', async t => {
  const place = new Place()
  const blobs = Array.from({ length: 12 }, (_, i) => plains(`unkept ${i}`, 1, 1 << 20)).flat()
  for (const blob of blobs) place.packs.add([blob])
  place.keeps = false
  t.equal(place.reader.capacity, 1 << 30)
  await place.bring(blobs)
  t.equal(place.reader.capacity, 0)
  const { length } = place.packs.backend.reads
  t.ok(length >= 8 && length < 12, `${length} reads`)
  await place.bring(blobs)
  t.equal(place.packs.backend.reads.length, length)
})

t.test('closed, it lets everybody go', async t => {
  const place = new Place()
  const blobs = Array.from({ length: 30 }, (_, i) => plains(`closed ${i}`, 1)).flat()
  for (const blob of blobs) place.packs.add([blob])
  place.packs.backend.intercept = (_, signal) => new Promise((_, reject) => signal!.addEventListener('abort', () => reject(new Error('aborted'))))
  const bringing = Promise.all([place.bring(blobs.slice(0, 20)), place.bring(blobs.slice(20))])
  await eventually('reads are under way', () => place.packs.backend.atOnce > 0)
  place.abort.abort()
  await bringing
  t.equal(place.reader.capacity, 0)
})

t.test('a loader brings near what it is told to, and decodes nothing of it', async t => {
  const place = new Place()
  const blobs = plains('prepared', 40)
  place.packs.add(blobs)
  const { index, codec, refresh } = place.packs
  const loader = new BlobLoader({ backend: place.backend, index, native: codec, refresh, keys: Buffer.alloc(64), log: silentLogger })
  t.equal(loader.foresight, 1 << 30)
  await loader.prepare(blobs.map(idOf))
  t.ok(blobs.every(blob => place.has(blob)))
  t.equal(codec.calls, 0)
  loader.close()
  t.equal(loader.foresight, 0)
})
