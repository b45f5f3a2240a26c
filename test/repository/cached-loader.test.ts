import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { CachedBackend } from '../../src/cache/cached-backend.js'
import { DiskCache } from '../../src/cache/disk/disk-cache.js'
import { DaybookError } from '../../src/errors.js'
import { BlobLoader } from '../../src/repository/blob-loader.js'
import { silentLogger } from '../../src/util/log.js'
import { abortedError } from '../../src/util/abort.js'
import { randomBytes } from '../fixtures/bytes.js'
import { FakePacks, idOf } from '../fixtures/fake-packs.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'

// Blobs through a disk cache: what is there waits for no remote.

class Place {
  readonly dir = makeScratch('cached-loader')
  readonly packs = new FakePacks()
  readonly #opened: (() => Promise<void>)[] = []

  constructor(t: { teardown(end: () => Promise<void>): void }) {
    t.teardown(async () => {
      for (const close of this.#opened) await close()
      removeScratch(this.dir)
    })
  }

  open(options: { inFlightBytes?: number } = {}): { loader: BlobLoader, disk: DiskCache } {
    const disk = new DiskCache({ cacheDir: this.dir, maxBytes: 1 << 30, log: silentLogger, trustMs: 0 })
    const backend = new CachedBackend(this.packs.backend, { disk, log: silentLogger })
    const { index, codec, refresh } = this.packs
    const loader = new BlobLoader({ backend, index, native: codec, refresh, keys: Buffer.alloc(64), log: silentLogger, cacheBytes: 1, ...options })
    this.#opened.push(async () => { loader.close(); await backend.close() })
    return { loader, disk }
  }
}

const fetchAll = (loader: BlobLoader, blobs: readonly Uint8Array[]): Promise<(Buffer | string)[]> => new Promise(resolve => {
  const answers: (Buffer | string)[] = []
  let missing = blobs.length
  loader.fetch(blobs.map(idOf), 'demand', (i, blob) => {
    answers[i] = blob instanceof Error ? (blob as DaybookError).code : Buffer.from(blob.bytes())
    if (--missing === 0) resolve(answers)
  })
})
const plains = (name: string, count: number, length = 1000) => Array.from({ length: count }, (_, i) => randomBytes(`${name} ${i}`, length))

t.test('blobs that were read one by one are had from the cache together, without what lies between them', async t => {
  const place = new Place(t)
  const blobs = plains('a', 200)
  place.packs.add(blobs, { gap: 10 })
  const first = place.open()
  const some = blobs.filter((_, i) => i % 3 === 0)
  for (const blob of some) {
    t.strictSame(await fetchAll(first.loader, [blob]), [blob])
    await first.disk.settled()
  }
  place.packs.backend.reads.length = 0
  t.strictSame(await fetchAll(place.open().loader, some), some)
  t.strictSame(place.packs.backend.reads, [])
  t.strictSame(await fetchAll(place.open().loader, blobs), blobs, 'and with those that are not there')
  t.equal(place.packs.backend.reads.length, 1)
})

t.test('what is there is served while a remote that went silent holds every connection and all the memory', async t => {
  const place = new Place(t)
  const here = plains('here', 50, 20_000)
  const far = plains('far', 300, 20_000)
  place.packs.add(here, { gap: 200_000 })
  for (let i = 0; i < 30; i++) place.packs.add(far.slice(i * 10, i * 10 + 10))
  const first = place.open()
  t.strictSame(await fetchAll(first.loader, here), here)
  await first.disk.settled()

  place.packs.backend.intercept = (_read, signal) => new Promise((_, reject) => signal?.addEventListener('abort', () => reject(abortedError(signal)), { once: true }))
  const { loader } = place.open({ inFlightBytes: 1 << 20 })
  const stuck = fetchAll(loader, far)
  await new Promise(resolve => setTimeout(resolve, 50))
  const started = performance.now()
  t.strictSame(await fetchAll(loader, here), here)
  t.ok(performance.now() - started < 2000)
  loader.close()
  t.ok((await stuck).every(answer => answer === 'ERR_ABORTED'))
})

t.test('wrong bytes in the cache cost one fetch each, and are right from then on', async t => {
  const place = new Place(t)
  const blobs = plains('a', 20)
  const { name } = place.packs.add(blobs)
  const first = place.open()
  await fetchAll(first.loader, blobs)
  await first.disk.settled()
  const path = join(place.dir, 'remote-1/packs/data', name.slice(0, 2), name)
  const stored = readFileSync(path)
  const [third, ninth] = [3, 9].map(i => place.packs.packs[0].blobs[i])
  for (const { offset } of [third, ninth]) stored[offset + 20] ^= 1
  writeFileSync(path, stored)

  place.packs.backend.reads.length = 0
  const second = place.open()
  t.strictSame(await fetchAll(second.loader, blobs), blobs)
  t.strictSame(place.packs.backend.reads.map(({ offset, length }) => ({ offset, length })).sort((a, b) => a.offset - b.offset), [third, ninth].map(({ offset, length }) => ({ offset, length })))
  t.equal(place.packs.refreshes, 0)
  await second.disk.settled()
  t.strictSame(await fetchAll(place.open().loader, blobs), blobs)
  t.equal(place.packs.backend.reads.length, 2)
})

t.test('a pack that is gone from the repository is served as far as it is there', async t => {
  const place = new Place(t)
  const blobs = plains('a', 20)
  const pack = place.packs.add(blobs)
  const first = place.open()
  await fetchAll(first.loader, blobs.slice(0, 10))
  await first.disk.settled()
  place.packs.remove(pack)
  const answers = await fetchAll(place.open().loader, blobs)
  t.strictSame(answers.slice(0, 10), blobs.slice(0, 10))
  t.ok(answers.slice(10).every(answer => answer === 'ERR_NOT_FOUND'), answers.slice(10).join())
})
