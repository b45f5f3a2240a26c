import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MemoryBackend } from '../../src/backend/memory.js'
import { newMasterKeys } from '../../src/crypto/create-key.js'
import { decryptFile } from '../../src/crypto/decrypt.js'
import { decodePackHeader, packHeaderLength } from '../../src/format/pack-header.js'
import { native, type Pieces } from '../../src/native.js'
import { BlobSaver, type BlobSaverOptions } from '../../src/repository/blob-saver.js'
import { randomBytes, textBytes } from '../fixtures/bytes.js'

const nothing = { holds: () => false, addIndexFile: async () => {} }

class Store {
  readonly backend = new MemoryBackend()
  readonly keys = newMasterKeys()
  readonly saver: BlobSaver
  constructor(options: Partial<BlobSaverOptions> = {}, version: 1 | 2 = 2) {
    this.saver = new BlobSaver({ access: { backend: this.backend, keys: this.keys, version, level: 3 }, index: nothing, dataLevel: 3, uploads: 2, ...options })
  }

  packs(): [name: string, bytes: Buffer][] {
    return [...this.backend.files].filter(([key]) => key.startsWith('data/')).map(([key, bytes]) => [key.slice(5), bytes])
  }

  /** Blobs by id, as the packs have them. */
  async blobs(): Promise<Map<string, { type: string, bytes: Buffer, compressed: boolean }>> {
    const blobs = new Map<string, { type: string, bytes: Buffer, compressed: boolean }>()
    for (const [name, pack] of this.packs()) {
      const length = packHeaderLength(name, pack.subarray(-4), pack.length)
      const header = await decryptFile('header', this.keys, pack.subarray(-4 - length, -4), { zstd: false, maxLength: length })
      for (const { id, type, offset, length: stored, plainLength } of decodePackHeader(name, header, pack.length - length - 4)) {
        const [blob] = await native.decodeBlobs(this.keys, pack, Uint32Array.of(offset, stored, plainLength), id)
        if (typeof blob === 'number') throw new Error(`blob ${id.toString('hex')}: ${blob}`)
        blobs.set(id.toString('hex'), { type, bytes: blob!.bytes(), compressed: plainLength > 0 })
      }
    }
    return blobs
  }
}

let folders = 0
t.testdir({})
/** Files of these contents, read as the archiver reads them. */
async function piecesOf(contents: readonly Buffer[]): Promise<Pieces> {
  const dir = join(t.testdirName, String(folders++))
  mkdirSync(dir)
  contents.forEach((bytes, i) => writeFileSync(join(dir, String(i).padStart(6, '0')), bytes))
  const scan = await native.scanDirectory(Buffer.from(dir))
  return scan.read(Uint32Array.from(contents.keys()))
}
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

t.test('what is saved can be decoded again, from packs that are named by their hash and listed in an index file', async t => {
  for (const [name, options, version, compressed] of [['compressed', {}, 2, true], ['not compressed', { dataLevel: null }, 2, false], ['format 1', {}, 1, false]] as const) {
    const store = new Store(options, version)
    const contents = [randomBytes('a', 1000), textBytes(2, 200_000), Buffer.from('x'), randomBytes('b', 500_000)]
    const added = await store.saver.save('data', await piecesOf(contents))
    t.match(added, { blobs: 4, length: 701_001 }, name)
    await store.saver.flush()
    const blobs = await store.blobs()
    for (const bytes of contents) t.ok(blobs.get(sha256(bytes))?.bytes.equals(bytes), `${name}: ${bytes.length} bytes`)
    t.ok([...blobs.values()].every(blob => blob.compressed === compressed && blob.type === 'data'))
    for (const [pack, bytes] of store.packs()) t.equal(sha256(bytes), pack)
    const [index] = [...store.backend.files].filter(([key]) => key.startsWith('index/')).map(([, bytes]) => bytes)
    const json = JSON.parse((await decryptFile('index', store.keys, index!, { zstd: version === 2, maxLength: 1 << 20 })).toString())
    t.strictSame(json.packs.map(({ id }: { id: string }) => id).sort(), store.packs().map(([pack]) => pack).sort())
  }
})

t.test('a blob is stored once, whether it comes twice or the repository has it', async t => {
  const known = randomBytes('known', 1000), fresh = randomBytes('fresh', 1000)
  const store = new Store({ index: { ...nothing, holds: (type, id) => type === 'data' && Buffer.from(id).toString('hex') === sha256(known) } })
  t.equal((await store.saver.save('data', await piecesOf([known, fresh, fresh]))).blobs, 1)
  t.equal((await store.saver.save('data', await piecesOf([fresh]))).blobs, 0)
  t.equal((await store.saver.save('tree', await piecesOf([fresh]))).blobs, 1, 'as a tree it is another blob')
  await store.saver.flush()
  t.equal((await store.blobs()).size, 1)
})

t.test('packs close at 16 MiB, trees and contents lie in packs of their own', async t => {
  const store = new Store({ dataLevel: null })
  for (let round = 0; round < 5; round++) await store.saver.save('data', await piecesOf(Array.from({ length: 20 }, (_, i) => randomBytes(`pack ${round} ${i}`, 500_000))))
  await store.saver.save('tree', await piecesOf([textBytes(3, 10_000)]))
  await store.saver.flush()
  const blobs = await store.blobs()
  t.equal(blobs.size, 101)
  const lengths = store.packs().map(([, bytes]) => bytes.length)
  t.ok(lengths.every(length => length < (17 << 20)), `${lengths}`)
  t.ok(lengths.length >= 4)
})

t.test('many who save at once lose nothing, and no pack is stored twice', async t => {
  const store = new Store({ dataLevel: null })
  const batches = Array.from({ length: 60 }, (_, batch) => Array.from({ length: 6 }, (_, i) => randomBytes(`${batch} ${i}`, 150_000 + 997 * i)))
  const pieces = await Promise.all(batches.map(piecesOf))
  await Promise.all(pieces.map(each => store.saver.save('data', each)))
  await store.saver.flush()
  const blobs = await store.blobs()
  t.equal(blobs.size, 360)
  t.ok(batches.flat().every(bytes => blobs.get(sha256(bytes))?.bytes.equals(bytes)))
  t.equal(store.packs().reduce((sum, [, bytes]) => sum + bytes.length, 0) < 360 * 153_000 + 1e6, true, 'each once')
})

t.test('a dry run stores nothing', async t => {
  const store = new Store({ dryRun: true })
  t.equal((await store.saver.save('data', await piecesOf([randomBytes('dry', 1000)]))).blobs, 1)
  await store.saver.flush()
  t.equal(store.backend.files.size, 0)
})

t.test('a pack that cannot be stored ends the run, and no index file lists it', async t => {
  const store = new Store()
  store.backend.save = async () => { throw Object.assign(new Error('full'), { code: 'ENOSPC' }) }
  await store.saver.save('data', await piecesOf([randomBytes('lost', 1000)]))
  await t.rejects(store.saver.flush(), { code: 'ENOSPC' })
  await store.saver.settle()
  t.equal(store.backend.files.size, 0)
})
