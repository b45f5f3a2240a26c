import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { LocalIndex } from '../../src/index/index.js'
import { openIndex } from '../../src/index/open-index.js'
import { fill, makeIndexCase, readAll } from '../fixtures/index-case.js'
import { indexJson, makePack, randomId, someRows } from '../fixtures/index-json.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { seeded } from '../fixtures/seeded.js'

const { seed, random } = seeded()
t.comment(`SEED=${seed}`)
const scratch = makeScratch('index')
t.teardown(() => removeScratch(scratch))

const log = { warn: (message: string) => t.comment(message) }
const hex = (id: string) => Buffer.from(id, 'hex')
const newId = () => randomId(random)

/** An index of its own for a test, closed at its end. */
async function newIndex(t: Test, repositoryId = newId()): Promise<LocalIndex> {
  const index = await openIndex({ cacheDir: scratch, repositoryId, log })
  t.teardown(() => index.close())
  return index
}

t.test('every blob of an index file is found, and nothing else', async t => {
  const index = await newIndex(t)
  const fixture = makeIndexCase(seed, { files: 3, blobs: 200 })
  for (const [name, json] of fixture.files) await index.addIndexFile(name, json)
  t.same(readAll(index, fixture), { blobs: 0, rows: 600 })
  t.same(index.indexFiles(), new Set(fixture.files.keys()))
  t.same(index.locate(hex(newId())), [])
  t.equal(index.rows(hex(newId())), null)
  t.same(index.locate(Buffer.alloc(5)), [], 'not an id')
  t.ok(index.hasPack(fixture.packs[0].id))
  t.notOk(index.hasPack(newId()))
  t.equal(index.packName(1), '', 'a pack that never was')
  t.ok(index.persistent)
})

t.test('what was written is there after closing and opening again', async t => {
  const repositoryId = newId()
  const fixture = makeIndexCase(seed, { files: 2, blobs: 50 })
  const first = await openIndex({ cacheDir: scratch, repositoryId, log })
  await fill(first, fixture)
  await first.putSnapshots(new Map([['a'.repeat(64), '{"time":"now"}']]), [])
  await first.putDayNames('view', new Map([['a'.repeat(64), '2026-11-20']]))
  await first.close()
  const index = await newIndex(t, repositoryId)
  t.same(readAll(index, fixture), { blobs: 0, rows: 0 })
  t.same(index.snapshots(), new Map([['a'.repeat(64), '{"time":"now"}']]))
  t.same(index.dayNames('view'), new Map([['a'.repeat(64), '2026-11-20']]))
  t.same(index.dayNames('another'), new Map())
  await index.putSnapshots(new Map(), ['a'.repeat(64)])
  t.same(index.snapshots(), new Map())
  t.same(index.dayNames('view'), new Map(), 'a name lives as long as its snapshot')
})

t.test('a pack listed by two index files goes with the second', async t => {
  const index = await newIndex(t)
  const [shared, alone] = [makePack(random, 'data', 10), makePack(random, 'data', 10)]
  const [one, two] = [newId(), newId()]
  await index.addIndexFile(one, indexJson([shared, alone]))
  await index.addIndexFile(two, indexJson([shared]))
  t.equal(index.locate(hex(shared.blobs[3].id)).length, 1, 'one place, listed twice')
  await index.removeIndexFiles([one])
  t.equal(index.locate(hex(shared.blobs[3].id)).length, 1)
  t.equal(index.locate(hex(alone.blobs[3].id)).length, 0)
  t.notOk(index.hasPack(alone.id))
  await index.removeIndexFiles([two, newId()])
  t.equal(index.locate(hex(shared.blobs[3].id)).length, 0)
  t.same(index.indexFiles(), new Set())
  t.ok(await index.check(), 'the counts agree')
  await index.addIndexFile(one, indexJson([shared, alone]))
  t.equal(index.locate(hex(alone.blobs[3].id)).length, 1, 'and can come back')
})

t.test('adding is idempotent, at the same time too', async t => {
  const index = await newIndex(t)
  const pack = makePack(random, 'tree', 30)
  const name = newId()
  await Promise.all([1, 2, 3].map(() => index.addIndexFile(name, indexJson([pack, pack]))))
  t.equal(index.treesWithoutRows(index.locate(hex(pack.blobs[0].id))[0].pack, 0, 100).length, 30)
  t.equal(index.missingTrees(), 30)
  t.ok(await index.check())
})

t.test('copies in packs marked for deletion come last', async t => {
  for (const order of ['before', 'after']) {
    const index = await newIndex(t)
    const kept = makePack(random, 'data', 5)
    const leaving = { id: newId(), blobs: kept.blobs }
    const again = { id: newId(), blobs: kept.blobs }
    await index.addIndexFile(newId(), order === 'before' ? indexJson([], [leaving]) : indexJson([kept], [leaving]))
    await index.addIndexFile(newId(), indexJson([kept, again]))
    const names = index.locate(hex(kept.blobs[2].id)).map(({ pack }) => index.packName(pack))
    t.equal(names.length, 3)
    t.equal(names[2], leaving.id, order)
    await index.addIndexFile(newId(), indexJson([leaving]))
    t.equal(index.locate(hex(kept.blobs[2].id)).length, 3)
  }
})

t.test('rows are wanted pack by pack until all are there', async t => {
  const index = await newIndex(t)
  const [older, newer] = [makePack(random, 'tree', 4), makePack(random, 'tree', 3)]
  const twice = { ...newer, blobs: [...newer.blobs, { ...older.blobs[0], offset: 9_000_000 }] }
  await index.addIndexFile(newId(), indexJson([older]))
  await index.addIndexFile(newId(), indexJson([twice]))
  const [newest, oldest] = index.packsWithoutRows(10)
  t.equal(index.packName(newest), newer.id, 'newest first')
  t.equal(index.packName(oldest), older.id)
  t.equal(index.packsWithoutRows(1).length, 1)
  t.equal(index.treesEnd(newest), 9_000_000 + older.blobs[0].length)
  t.equal(index.treesEnd(-1), 0)
  t.equal(index.missingTrees(), 8, 'a tree in two packs counts in both')
  const put = (pack: { blobs: readonly { id: string }[] }) => index.putRows(pack.blobs.map(({ id }) => ({ id: hex(id), rows: someRows(random, 3) })))
  t.same(index.treesWithoutRows(newest, 0, 10).map(({ offset }) => offset), twice.blobs.map(({ offset }) => offset), 'by offset')
  t.same(index.treesWithoutRows(newest, twice.blobs[1].offset, 2).map(({ offset }) => offset), twice.blobs.slice(1, 3).map(({ offset }) => offset))
  await put(twice)
  t.same(index.treesWithoutRows(newest, 0, 10), [])
  t.same(index.packsWithoutRows(10), [oldest])
  t.equal(index.missingTrees(), 3)
  t.equal(index.missingTrees('tried'), 0)
  await index.markPackTried(oldest)
  t.same(index.packsWithoutRows(10), [], 'one whose trees cannot be had is not named again')
  t.equal(index.missingTrees(), 3, 'but they are still missing')
  t.equal(index.missingTrees('tried'), 3)
  await put(older)
  t.equal(index.missingTrees(), 0)
})

t.test('rows known before their pack are not wanted again', async t => {
  const index = await newIndex(t)
  const pack = makePack(random, 'tree', 4)
  await index.putRows(pack.blobs.map(({ id }) => ({ id: hex(id), rows: someRows(random, 1) })))
  await index.addIndexFile(newId(), indexJson([pack]))
  t.same(index.packsWithoutRows(10), [])
})

t.test('rows go with the last pack that has the tree', async t => {
  const index = await newIndex(t)
  const old = makePack(random, 'tree', 6)
  const repacked = { id: newId(), blobs: old.blobs.slice(0, 2) }
  const [before, after] = [newId(), newId()]
  await index.addIndexFile(before, indexJson([old]))
  await index.putRows(old.blobs.map(({ id }) => ({ id: hex(id), rows: someRows(random, 1) })))
  await index.addIndexFile(after, indexJson([repacked]))
  await index.removeIndexFiles([before])
  t.same(old.blobs.map(({ id }) => index.rows(hex(id)) !== null), [true, true, false, false, false, false])
  t.equal(index.missingTrees(), 0)
})

t.test('flags are those of all rows', async t => {
  const index = await newIndex(t)
  t.equal(index.flags, 0)
  await index.putRows([{ id: hex(newId()), rows: someRows(random, 2, { acl: true }) }])
  await index.putRows([{ id: hex(newId()), rows: someRows(random, 2) }])
  t.equal(index.flags, 3, 'xattr and acl')
})

t.test('rows given in one turn are all stored, in whatever pieces', async t => {
  const index = await newIndex(t)
  const ids = Array.from({ length: 300 }, newId)
  const rows = someRows(random, 300)
  await Promise.all(ids.map(id => index.putRows([{ id: hex(id), rows }])))
  t.ok(ids.every(id => index.rows(hex(id))?.equals(rows)))
})

t.test('a pack known from its header', async t => {
  const index = await newIndex(t)
  const pack = makePack(random, 'tree', 5)
  const entries = pack.blobs.map(({ id, type, offset, length, uncompressed_length: plainLength = 0 }) => ({ id: hex(id), type, offset, length, plainLength }))
  await index.addPackHeader(pack.id, entries)
  t.ok(index.hasPack(pack.id))
  t.same(index.indexFiles(), new Set(), 'is in no index file')
  const [{ offset, length }] = index.locate(hex(pack.blobs[1].id))
  t.same([offset, length], [pack.blobs[1].offset, pack.blobs[1].length])
  t.equal(index.missingTrees(), 5)
  await index.removeIndexFiles([newId()])
  t.ok(index.hasPack(pack.id), 'it stays when others go')
  const name = newId()
  await index.addIndexFile(name, indexJson([pack]))
  await index.removePacks([pack.id])
  t.ok(index.hasPack(pack.id), 'an index file has it now')
  await index.removeIndexFiles([name])
  t.notOk(index.hasPack(pack.id))
  await index.addPackHeader(pack.id, entries)
  await index.removePacks([pack.id, newId()])
  t.notOk(index.hasPack(pack.id))
  t.ok(await index.check())
})

t.test('an index file that cannot be understood changes nothing', async t => {
  const index = await newIndex(t)
  await t.rejects(index.addIndexFile(newId(), Buffer.from('{"packs":[{"id":')), { code: 'ERR_CORRUPT' })
  t.same(index.indexFiles(), new Set())
  await t.rejects(index.addIndexFile('no name', Buffer.from('{}')), { code: 'ERR_USAGE' })
  await t.rejects(index.putRows([{ id: Buffer.alloc(3), rows: Buffer.alloc(100) }]), RangeError)
  await index.addIndexFile(newId(), indexJson([]))
  t.equal(index.indexFiles().size, 1, 'and the next one is added')
})

t.test('writes keep the order of the calls, whatever is still being decoded', async t => {
  const index = await newIndex(t)
  const [name, other] = [newId(), newId()]
  const large = indexJson([makePack(random, 'data', 5000)])
  const outcomes = await Promise.allSettled([
    index.addIndexFile(name, large), index.removeIndexFiles([name]),
    index.addIndexFile(newId(), large.subarray(0, -1)), index.addIndexFile(other, indexJson([])), index.putSnapshots(new Map(), []),
  ])
  t.same(outcomes.map(({ status }) => status), ['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
  t.same(index.indexFiles(), new Set([other]), 'removed behind its addition; the corrupt one held nobody up')
})

t.test('an index file is written to the new index when the old one is lost while it waits', async t => {
  const index = await newIndex(t)
  const packs = [1, 2, 3].map(() => makePack(random, 'data', 2000))
  let written = 0
  const writing = packs.map(async pack => {
    await index.addIndexFile(newId(), indexJson([pack]))
    written++
  })
  let lost = 0
  for (let i = 0; i < 3; i++) {
    await new Promise(resolve => setTimeout(resolve, 5))
    lost = written
    await index.reset('a test')
  }
  await Promise.all(writing)
  t.same(packs.map(({ blobs }) => index.locate(hex(blobs[1999].id)).length), packs.map((_, i) => i < lost ? 0 : 1), `${lost} were written before`)
  t.ok(await index.check())
})

t.test('reset() starts empty and says so, once and later', async t => {
  const index = await newIndex(t)
  const pack = makePack(random, 'data', 5)
  await index.addIndexFile(newId(), indexJson([pack]))
  const [{ pack: number }] = index.locate(hex(pack.blobs[0].id))
  const heard: string[] = []
  const stop = index.onReset(reason => heard.push(reason))
  const writing = index.addIndexFile('b'.repeat(64), indexJson([]))
  await index.reset('a test')
  t.same(heard, [], 'not in the same turn')
  t.same(index.locate(hex(pack.blobs[0].id)), [])
  await writing
  t.same(heard, ['a test'])
  t.same(index.indexFiles(), new Set(['b'.repeat(64)]), 'what was being written is in the new one')
  await index.addIndexFile(newId(), indexJson([makePack(random, 'data', 5), pack]))
  t.equal(index.packName(number), '', 'a number from before means nothing')
  t.equal(index.packName(index.locate(hex(pack.blobs[0].id))[0].pack), pack.id)
  stop()
  await index.reset('again')
  await index.putSnapshots(new Map(), [])
  t.same(heard, ['a test'])
})

t.test('after close() nothing throws', async t => {
  const index = await newIndex(t)
  await index.close()
  await index.close()
  t.same(index.locate(hex(newId())), [])
  t.equal(index.rows(hex(newId())), null)
  t.same(index.indexFiles(), new Set())
  await t.rejects(index.putSnapshots(new Map(), []), { code: 'ERR_INDEX' })
  await index.reset('too late')
  t.equal(index.flags, 0)
})

t.test('close() waits for what is being written', async t => {
  const repositoryId = newId()
  const fixture = makeIndexCase(seed, { files: 4, blobs: 100 })
  const first = await openIndex({ cacheDir: scratch, repositoryId, log })
  for (const [name, json] of fixture.files) void first.addIndexFile(name, json)
  await first.close()
  t.equal(readAll(await newIndex(t, repositoryId), fixture).blobs, 0)
})

t.test('folders and files are private, and the cache is tagged', async t => {
  const cacheDir = join(scratch, 'new', 'cache')
  mkdirSync(join(scratch, 'new'))
  const index = await openIndex({ cacheDir, repositoryId: newId(), log })
  t.teardown(() => index.close())
  await index.putSnapshots(new Map(), [])
  for (const name of ['', ...readdirSync(cacheDir, { recursive: true, encoding: 'utf8' })]) {
    const stat = statSync(join(cacheDir, name))
    t.equal(stat.mode & 0o777, stat.isDirectory() ? 0o700 : 0o600, name || 'the cache directory')
  }
  t.ok(statSync(join(cacheDir, 'CACHEDIR.TAG')).size > 43)
})
