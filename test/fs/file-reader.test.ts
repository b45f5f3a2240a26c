import t from 'tap'
import { FileReader } from '../../src/fs/file-reader.js'
import { ZERO_CHUNK_ID, ZERO_CHUNK_LENGTH } from '../../src/fs/file-map.js'
import type { ReadPart } from '../../src/fs/sources.js'
import type { NativeBlob } from '../../src/native.js'
import { randomBytes } from '../fixtures/bytes.js'
import { MemoryBlobs, MemoryPages } from '../fixtures/memory-sources.js'
import { seeded } from '../fixtures/seeded.js'

const NODE = 77 * 2 ** 24 + 3

function joined(parts: ReadPart[]): Buffer {
  const pieces: Buffer[] = []
  for (let i = 0; i < parts.length; i += 3) {
    const [blob, start, length] = parts.slice(i, i + 3) as [NativeBlob | null, number, number]
    pieces.push(blob === null ? Buffer.alloc(length) : blob.bytes().subarray(start, start + length))
  }
  return Buffer.concat(pieces)
}

function file(random: () => number, chunks: number) {
  const blobs = new MemoryBlobs(random, 6)
  const contents: Buffer[] = []
  const ids: Buffer[] = []
  for (let i = 0; i < chunks; i++) {
    const hole = random() < 0.1
    // odd lengths: chunks share pages; some lie within one
    const bytes = hole ? Buffer.alloc(ZERO_CHUNK_LENGTH) : randomBytes(i, 1 + Math.floor(random() * (random() < 0.2 ? 900 : 60_000)))
    contents.push(bytes)
    ids.push(hole ? ZERO_CHUNK_ID : blobs.add(bytes))
  }
  const content = Buffer.concat(contents)
  const pages = new MemoryPages(node => node === NODE ? content : undefined)
  return { content, ids: Buffer.concat(ids), blobs, pages, reader: new FileReader(blobs, pages) }
}

t.test('whatever the order of reads, every byte is right, read or pushed', async t => {
  for (let round = 0; round < 4; round++) {
    const { random, seed } = seeded()
    const { content, ids, pages, reader } = file(random, 1 + Math.floor(random() * 60))
    let next = 0
    for (let step = 0; step < 80; step++) {
      const sequential = random() < 0.7
      const offset = sequential ? next : Math.floor(random() * (content.length + 5000))
      const size = [1, 4096, 4096 * 32, 1 << 20][Math.floor(random() * 4)]
      next = offset + size >= content.length ? 0 : offset + size
      const bytes = joined(await reader.read(NODE, ids, offset, size))
      if (!bytes.equals(content.subarray(offset, offset + size))) return t.fail(`wrong bytes at ${offset}+${size}, seed ${seed}`)
    }
    await new Promise(resolve => setTimeout(resolve, 10))
    t.strictSame(pages.wrong, [], `seed ${seed}`)
  }
})

t.test('to a sequential reader the next chunks are at hand when it asks; each is decoded once, and none is pushed in a race with its requests', async t => {
  const { random, seed } = seeded(7)
  t.comment(`seed ${seed}`)
  const blobs = new MemoryBlobs(random, 64)
  const chunks = Array.from({ length: 100 }, (_, i) => randomBytes(i, 50_001 + i * 7))
  const content = Buffer.concat(chunks)
  const ids = Buffer.concat(chunks.map(chunk => blobs.add(chunk)))
  const pages = new MemoryPages(() => content)
  const reader = new FileReader(blobs, pages)
  let requests = 0
  let waited = 0
  for (let offset = 0; offset < content.length; offset += 131_072) {
    requests++
    const parts = reader.read(NODE, ids, offset, 131_072)
    if (parts instanceof Promise) waited++
    if (!joined(await parts).equals(content.subarray(offset, offset + 131_072))) return t.fail(`wrong bytes at ${offset}`)
    await new Promise(resolve => setTimeout(resolve, 4))
  }
  t.equal(pages.pushes, 0)
  t.equal(new Set(blobs.fetched).size, blobs.fetched.length, 'no chunk twice')
  t.ok(waited < requests / 3, `${waited} of ${requests} requests had to wait`)
})

t.test('around a random read the rest of its chunk is pushed, so that its neighbours cost no request', async t => {
  const { random } = seeded(8)
  const blobs = new MemoryBlobs(random, 64)
  const chunks = Array.from({ length: 20 }, (_, i) => randomBytes(i, 50_001 + i * 7))
  const content = Buffer.concat(chunks)
  const pages = new MemoryPages(() => content)
  const reader = new FileReader(blobs, pages)
  const offset = Math.floor(content.length / 2 / 4096) * 4096
  const ids = Buffer.concat(chunks.map(chunk => blobs.add(chunk)))
  t.ok(joined(await reader.read(NODE, ids, offset, 4096)).equals(content.subarray(offset, offset + 4096)))
  await new Promise(resolve => setTimeout(resolve, 10))
  t.strictSame(pages.wrong, [])
  t.ok(pages.has(NODE, offset / 4096 - 1) || pages.has(NODE, offset / 4096 + 1), 'a page beside it is there')
  t.ok(blobs.fetched.length <= 2, 'one chunk, or the two that share the page')
})

t.test('many who read at random all get their answers, however little memory there is (they went round in circles)', { timeout: 60_000 }, async t => {
  const { random, seed } = seeded()
  t.comment(`seed ${seed}`)
  const blobs = new MemoryBlobs(random, 2)
  const chunks = Array.from({ length: 64 }, (_, i) => randomBytes(i, 20_000 + i))
  const content = Buffer.concat(chunks)
  const ids = Buffer.concat(chunks.map(chunk => blobs.add(chunk)))
  const pages = new MemoryPages(() => content)
  const reader = new FileReader(blobs, pages)
  const readers = Array.from({ length: 32 }, async () => {
    for (let i = 0; i < 20; i++) {
      const offset = Math.floor(random() * content.length)
      if (!joined(await reader.read(NODE, ids, offset, 4096)).equals(content.subarray(offset, offset + 4096))) throw new Error(`wrong bytes at ${offset}`)
    }
  })
  await Promise.all(readers)
  t.strictSame(pages.wrong, [])
})

t.test('a blob that is in no index file is EIO for the file, and nothing else', async t => {
  const { random } = seeded(1)
  const blobs = new MemoryBlobs(random)
  const reader = new FileReader(blobs, new MemoryPages(() => undefined))
  await t.rejects(async () => reader.read(NODE, Buffer.alloc(32, 9), 0, 10), { code: 'EIO' })
})

t.test('while the index is being filled, a file waits for its own blobs, not for all', async t => {
  const { random } = seeded(2)
  const blobs = new MemoryBlobs(random)
  const chunks = [randomBytes(1, 5000), randomBytes(2, 5000), randomBytes(3, 5000)]
  const later = new MemoryBlobs(random)
  const ids = chunks.map(chunk => later.add(chunk))
  blobs.add(chunks[0])
  const waited: string[] = []
  blobs.onLocated = id => {
    waited.push(Buffer.from(id).toString('hex'))
    blobs.add(chunks[ids.findIndex(other => other.equals(id))])
  }
  blobs.refresh = async () => { throw new Error('the whole index is not to be waited for') }
  const reader = new FileReader(blobs, new MemoryPages(() => undefined))
  t.ok(joined(await reader.read(NODE, Buffer.concat(ids), 0, 20_000)).equals(Buffer.concat(chunks)))
  t.strictSame(waited, [ids[1].toString('hex'), ids[2].toString('hex')])
})
