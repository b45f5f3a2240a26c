import t from 'tap'
import type { RowEntry } from '../../src/format/tree-rows.js'
import { TreeRows } from '../../src/format/tree-rows.js'
import { FileSystem } from '../../src/fs/file-system.js'
import { TreeAhead } from '../../src/fs/tree-ahead.js'
import { TreeHandles } from '../../src/fs/tree-handles.js'
import type { BlobId, SnapshotEntry } from '../../src/fs/sources.js'
import { MemoryBlobs, MemoryPages, MemoryTrees } from '../fixtures/memory-sources.js'
import { seeded } from '../fixtures/seeded.js'

const TIME = [0n, 0] as const
const turn = () => new Promise(setImmediate)

/** Counts what is asked for, and how. */
class CountedTrees extends MemoryTrees {
  readonly demanded: string[] = []
  readonly batches: number[] = []
  refuse = (): boolean => false

  override load(id: BlobId): Promise<Buffer> {
    this.demanded.push(Buffer.from(id).toString('hex'))
    return super.load(id)
  }

  override fetch(ids: readonly BlobId[], onRows: (index: number, rows: Buffer | Error) => void): void {
    this.batches.push(ids.length)
    ids.forEach((id, i) => {
      if (this.refuse()) setImmediate(() => onRows(i, Object.assign(new Error('refused'), { code: 'ERR_ABORTED' })))
      else super.load(id).then(rows => onRows(i, rows), (error: Error) => onRows(i, error))
    })
  }
}

function world(random: () => number, levels: number, width: number) {
  const trees = new CountedTrees()
  trees.complete = false
  let made = 0
  const tree = (level: number): Buffer => {
    const entries: RowEntry[] = []
    for (let i = 0; level > 0 && i < Math.ceil(random() * width); i++) {
      entries.push({ name: Buffer.from(`d${i}`), mode: 0o40755, ino: BigInt(++made + 10), mtime: TIME, size: 4096, subtree: tree(level - 1) })
    }
    entries.push({ name: Buffer.from(`f${++made}`), mode: 0o100644, ino: BigInt(made + 10), mtime: TIME, size: 0, content: Buffer.alloc(0) })
    return trees.add(entries)
  }
  const root = tree(levels)
  const fs = new FileSystem({ trees, blobs: new MemoryBlobs(random), pages: new MemoryPages(() => undefined), owner: { uid: 0, gid: 0 }, usage: () => ({ bytes: 0, files: 0 }) })
  const snapshot: SnapshotEntry = { id: 'a'.repeat(64), tree: root, timeMs: 0, timeNs: 0, hostname: 'h', username: 'u', tags: [], paths: [] }
  fs.show(new Map([['day', { kind: 'snapshot', snapshot }]]), () => ({ tree: root, attributes: null }))

  let listed = 0
  /** As `find` does it. @param order in which subdirectories are visited */
  const walk = async (node: number, order: (nodes: number[]) => number[]): Promise<void> => {
    const listing = await fs.readdirplus(node)
    const rows = new TreeRows(listing.rows)
    fs.listed(listing, 0, rows.count + 2)
    fs.listedToTheEnd(node)
    listed++
    await turn()
    const below: number[] = []
    for (let position = 0; position < rows.count; position++) {
      const child = listing.nodes?.[position] ?? 2 ** 51 + listing.directoryBase + rows.ordinal(position)
      if (rows.isDirectory(position)) below.push(child)
    }
    for (const child of order(below)) await walk(child, order)
  }
  return { trees, fs, walk, listed: () => listed, inOrder: (nodes: number[]) => nodes }
}

t.test('who walks finds nearly every directory at hand, and they come in few batches', async t => {
  const { random, seed } = seeded()
  t.comment(`seed ${seed}`)
  const { trees, walk, listed, inOrder } = world(random, 6, 7)
  await walk(1, inOrder)
  t.ok(listed() > 100, `${listed()} directories`)
  t.ok(trees.demanded.length <= 12, `${trees.demanded.length} had to be waited for`)
  t.ok(trees.batches.length < 30 + listed() / 300, `${trees.batches.length} batches`)
})

t.test('whatever the order, and whatever is refused, every directory is listed', async t => {
  const { random, seed } = seeded()
  t.comment(`seed ${seed}`)
  const { trees, walk, listed } = world(random, 5, 6)
  trees.refuse = () => random() < 0.2
  await walk(1, nodes => [...nodes].sort(() => random() - 0.5))
  const once = listed()
  t.ok(new Set(trees.demanded).size <= once)
  await walk(1, nodes => [...nodes].reverse())
  t.equal(listed(), 2 * once)
})

t.test('who lists one directory, or two far apart in time, gets no more than that', async t => {
  const { random } = seeded(3)
  const { trees, fs } = world(random, 4, 5)
  const days = await fs.readdirplus(1)
  await fs.readdirplus(days.nodes![0])
  for (let i = 0; i < 10; i++) await turn()
  t.strictSame(trees.batches, [])
})

t.test('with all trees in the local index nothing is fetched', async t => {
  const { random } = seeded(4)
  const { trees, walk, inOrder } = world(random, 4, 5)
  trees.complete = true
  await walk(1, inOrder)
  t.strictSame(trees.batches, [])
})

t.test('a walk that was lost is taken up again, however long ago the directory above was listed (each of its subdirectories then had to be waited for)', async t => {
  const trees = new CountedTrees()
  trees.complete = false
  const directory = (name: string, subtree: Buffer): RowEntry => ({ name: Buffer.from(name), mode: 0o40755, ino: 1n, mtime: TIME, size: 0, subtree })
  const ids = Array.from({ length: 6000 }, (_, i) => trees.add([{ name: Buffer.from(`f${i}`), mode: 0o100644, ino: 1n, mtime: TIME, size: 0, content: Buffer.alloc(0) }]))
  const root = trees.add(ids.map((id, i) => directory(`d${String(i).padStart(5, '0')}`, id)))
  const handles = new TreeHandles()
  // instance 1 is the root, its subdirectories are 2, 3, ...
  const handleOf = (instance: number) => handles.of(instance === 1 ? root : ids[instance - 2])
  const directories = { parent: (instance: number) => instance === 1 ? 0 : 1, exists: (instance: number) => instance > 0, tree: handleOf, position: (instance: number) => instance - 2 }
  let now = 0
  const ahead = new TreeAhead({ trees, handles, directories, now: () => now })
  let waited = 0
  for (let instance = 1; instance < ids.length + 2; instance++) {
    now += 10
    trees.refuse = () => instance < 3500
    const id = instance === 1 ? root : ids[instance - 2]
    if (instance > 3600 && trees.peek(id) === null) waited++
    ahead.listing(instance, handleOf(instance), await trees.load(id))
    if (instance % 16 === 0) await turn()
  }
  t.ok(waited < 100, `${waited} of the last 2400 had to be waited for`)
})
