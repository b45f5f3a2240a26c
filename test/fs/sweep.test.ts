import t from 'tap'
import type { RowEntry } from '../../src/format/tree-rows.js'
import { TreeRows } from '../../src/format/tree-rows.js'
import { FileSystem } from '../../src/fs/file-system.js'
import type { SnapshotEntry } from '../../src/fs/sources.js'
import type { NativeBlob } from '../../src/native.js'
import { randomBytes } from '../fixtures/bytes.js'
import { MemoryBlobs, MemoryPages, MemoryTrees } from '../fixtures/memory-sources.js'
import { seeded } from '../fixtures/seeded.js'

const TIME = [0n, 0] as const

/** A file system of one snapshot with small files in many directories, and a reader that asks as the kernel does: only for what is not in the page cache. */
function world(random: () => number, { directories, files, foresight = 0 }: { directories: number, files: number, foresight?: number }) {
  const trees = new MemoryTrees()
  const blobs = new MemoryBlobs(random, 4000)
  blobs.foresight = foresight
  const contents = new Map<number, Buffer>()
  const pages = new MemoryPages(node => contents.get(node))
  const byName = new Map<string, Buffer>()
  let made = 0
  const tree = (depth: number): Buffer => {
    const entries: RowEntry[] = []
    for (let i = 0; i < files; i++) {
      const bytes = randomBytes(++made, Math.floor(random() * 20_000))
      const name = `f${String(made).padStart(6, '0')}`
      byName.set(name, bytes)
      const content = bytes.length === 0 ? Buffer.alloc(0) : blobs.add(bytes)
      entries.push({ name: Buffer.from(name), mode: 0o100644, ino: BigInt(made + 10), mtime: TIME, size: bytes.length, content })
    }
    for (let i = 0; depth > 0 && i < directories; i++) {
      entries.push({ name: Buffer.from(`d${i}`), mode: 0o40755, ino: BigInt(++made + 10), mtime: TIME, size: 4096, subtree: tree(depth - 1) })
    }
    return trees.add(entries)
  }
  const root = tree(3)
  const fs = new FileSystem({ trees, blobs, pages, owner: { uid: 0, gid: 0 }, usage: () => ({ bytes: 0, files: 0 }) })
  const snapshot: SnapshotEntry = { id: 'a'.repeat(64), tree: root, timeMs: 0, timeNs: 0, hostname: 'h', username: 'u', tags: [], paths: [] }
  fs.show(new Map([['day', { kind: 'snapshot', snapshot }]]), () => ({ tree: root, attributes: null }))

  const counts = { files: 0, reads: 0 }
  /** @param reading how many files are read before it is broken off; 0: none are, and all are listed */
  const walk = async (node: number, reading: number): Promise<void> => {
    const listing = await fs.readdirplus(node)
    const rows = new TreeRows(listing.rows)
    fs.listed(listing, 0, rows.count + 2)
    fs.listedToTheEnd(node)
    const nodeAt = (position: number) => listing.nodes?.[position] ?? (rows.isDirectory(position)
      ? 2 ** 51 + listing.directoryBase + rows.ordinal(position) : 2 ** 50 + listing.fileBase + position)
    for (let position = 0; position < rows.count; position++) {
      if (!rows.isRegular(position)) continue
      counts.files++
      const child = nodeAt(position)
      const bytes = byName.get(rows.name(position).toString())!
      contents.set(child, bytes)
      if (reading === 0 || bytes.length === 0) continue
      if (counts.files > reading) throw new Error('enough')
      // the time a program takes for a file, in which pushes arrive
      await new Promise(resolve => setImmediate(resolve))
      const there = Array.from({ length: Math.ceil(bytes.length / 4096) }, (_, page) => pages.has(child, page)).every(Boolean)
      if (there) continue
      counts.reads++
      const [blob, start, length] = await fs.read(child, 0, 131072) as [NativeBlob, number, number]
      if (!blob.bytes().subarray(start, start + length).equals(bytes)) throw new Error(`wrong bytes of ${rows.name(position)}`)
    }
    for (let position = 0; position < rows.count; position++) if (rows.isDirectory(position)) await walk(nodeAt(position), reading)
  }
  const register = async (node: number): Promise<void> => {
    const listing = await fs.readdirplus(node)
    const rows = new TreeRows(listing.rows)
    for (let position = 0; position < rows.count; position++) {
      if (rows.isRegular(position)) contents.set(2 ** 50 + listing.fileBase + position, byName.get(rows.name(position).toString())!)
      else await register(listing.nodes?.[position] ?? 2 ** 51 + listing.directoryBase + rows.ordinal(position))
    }
  }
  return { fs, walk, register, counts, pages, blobs }
}

t.test('a copy of a whole tree finds most files in the page cache, and every byte is right', async t => {
  const { random, seed } = seeded()
  t.comment(`seed ${seed}`)
  const { walk, register, counts, pages } = world(random, { directories: 6, files: 8 })
  await register(1)
  await walk(1, Infinity)
  t.strictSame(pages.wrong, [])
  t.ok(counts.reads < counts.files / 3, `${counts.reads} reads for ${counts.files} files`)
})

t.test('over a far link files are brought near in long portions, and fetched when they are', async t => {
  const { random, seed } = seeded()
  t.comment(`seed ${seed}`)
  const { walk, register, counts, pages, blobs } = world(random, { directories: 6, files: 8, foresight: 4 << 20 })
  await register(1)
  await walk(1, Infinity)
  t.strictSame(pages.wrong, [])
  t.ok(counts.reads < counts.files / 3, `${counts.reads} reads for ${counts.files} files`)
  t.equal(blobs.early, 0)
  const prepared = blobs.portions.reduce((sum, count) => sum + count, 0)
  t.ok(prepared < counts.files * 1.1, `${prepared} brought near of ${counts.files}: hardly any twice`)
  t.ok(prepared / blobs.portions.length > 40, `${blobs.portions.length} portions`)
})

t.test('who copies one directory gets nothing of those behind it', async t => {
  const { random } = seeded(5)
  const { fs, walk, blobs, counts } = world(random, { directories: 6, files: 8, foresight: 4 << 20 })
  const { rows, directoryBase } = await Promise.resolve(fs.readdirplus(1)).then(root => fs.readdirplus(root.nodes![0]))
  t.ok(new TreeRows(rows).directoryPositions.length > 3)
  await walk(2 ** 51 + directoryBase + 2, Infinity)
  t.ok(new Set(blobs.fetched).size <= counts.files, 'nothing of those behind it was fetched')
  t.ok(blobs.portions.reduce((sum, count) => sum + count, 0) <= counts.files)
})

t.test('listing alone fetches no contents', async t => {
  const { random } = seeded(3)
  const { walk, register, blobs } = world(random, { directories: 5, files: 5 })
  await register(1)
  await walk(1, 0)
  t.equal(blobs.fetched.length, 0)
})

t.test('a find behind a copy that was broken off fetches no more than the credit the copy had', async t => {
  const { random } = seeded(4)
  const { walk, register, blobs, counts } = world(random, { directories: 8, files: 8 })
  await register(1)
  await t.rejects(walk(1, 60), /enough/)
  const first = blobs.fetched.length
  t.ok(first > 60, 'the copy was read ahead for')
  await walk(1, 0)
  t.ok(counts.files > 4000)
  t.ok(blobs.fetched.length < 1000, `${blobs.fetched.length} of ${counts.files} files fetched`)
})
