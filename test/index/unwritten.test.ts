import t from 'tap'
import { decodeIndexFile } from '../../src/format/index-file.js'
import { UnwrittenBlobs } from '../../src/index/unwritten.js'
import { seeded } from '../fixtures/seeded.js'
import { indexJson, makePack, randomId } from '../fixtures/index-json.js'

t.test('every blob of every file is located, with all its copies, until its file is written', async t => {
  const { random } = seeded()
  const unwritten = new UnwrittenBlobs()
  const packs = Array.from({ length: 40 }, (_, i) => makePack(random, i % 3 === 0 ? 'tree' : 'data', 1 + Math.floor(random() * 60)))
  // one blob in three packs, one of them marked for deletion
  const shared = packs[1].blobs[0]
  const again = { id: randomId(random), blobs: [shared] }
  const leaving = { id: randomId(random), blobs: [shared] }
  const files = await Promise.all([
    ...Array.from({ length: 8 }, (_, i) => decodeIndexFile(`${i}`, indexJson(packs.slice(i * 5, i * 5 + 5)))),
    decodeIndexFile('again', indexJson([again], [leaving])),
  ])
  for (const file of files) unwritten.add(file)
  let wrong = 0
  for (const pack of packs) {
    for (const blob of pack.blobs) {
      const found = unwritten.locate(Buffer.from(blob.id, 'hex'))
      if (!found.some(({ pack: number, offset, length }) => unwritten.packName(number) === pack.id && offset === blob.offset && length === blob.length)) wrong++
    }
  }
  t.equal(wrong, 0)
  const copies = unwritten.locate(Buffer.from(shared.id, 'hex'))
  t.strictSame(copies.map(({ pack }) => unwritten.packName(pack)), [packs[1].id, again.id, leaving.id], 'the one marked for deletion is last')
  t.strictSame(unwritten.locate(Buffer.alloc(32, 0)), [])
  t.strictSame(unwritten.locate(Buffer.alloc(32, 255)), [])
  t.equal(unwritten.packName(17), null, 'a number that SQLite gave')
  const [tree] = packs[0].blobs
  const [{ pack: ofTrees }] = unwritten.locate(Buffer.from(tree.id, 'hex'))
  t.equal(unwritten.treesEnd(ofTrees), Math.max(...packs[0].blobs.map(({ offset, length }) => offset + length)))
  t.equal(unwritten.treesEnd(copies[0].pack), 0, 'a pack of data')
  t.equal(unwritten.treesEnd(17), null)

  unwritten.remove(files[0])
  t.strictSame(unwritten.locate(Buffer.from(packs[0].blobs[0].id, 'hex')), [])
  t.equal(unwritten.packName(copies[0].pack), packs[1].id, 'a number given out stays valid')
  t.equal(unwritten.treesEnd(ofTrees), 0, 'but nothing more is known here')
})
