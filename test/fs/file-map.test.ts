import { createHash } from 'node:crypto'
import t from 'tap'
import { FileMap, ZERO_CHUNK_ID, ZERO_CHUNK_LENGTH } from '../../src/fs/file-map.js'

const id = (n: number) => createHash('sha256').update(String(n)).digest()
const lengths = new Map([[id(1).toString('hex'), 10], [id(2).toString('hex'), 1000], [id(3).toString('hex'), 7], [id(4).toString('hex'), 0]])
const lengthOf = (blob: Buffer) => lengths.get(blob.toString('hex')) ?? -1
const build = (...ids: Buffer[]) => FileMap.build(Buffer.concat(ids), lengthOf) as FileMap

t.test('the zero chunk is what it says', async t => {
  t.ok(createHash('sha256').update(Buffer.alloc(ZERO_CHUNK_LENGTH)).digest().equals(ZERO_CHUNK_ID))
})

t.test('chunkAt finds the chunk that holds a byte', async t => {
  const map = build(id(1), id(4), id(2), id(3))
  t.equal(map.size, 1017)
  for (const [offset, chunk] of [[0, 0], [9, 0], [10, 2], [1009, 2], [1010, 3], [1016, 3], [1017, 4], [9999, 4]]) t.equal(map.chunkAt(offset), chunk, `byte ${offset}`)
})

t.test('an unknown blob makes the whole map unknown', async t => { t.equal(FileMap.build(Buffer.concat([id(1), id(99)]), lengthOf), null) })
t.test('an empty file', async t => {
  const map = build()
  t.equal(map.size, 0)
  t.equal(map.seek(0, 'data'), -1)
})

t.test('seek sees holes', async t => {
  const Z = ZERO_CHUNK_LENGTH
  const map = build(ZERO_CHUNK_ID, ZERO_CHUNK_ID, id(2), ZERO_CHUNK_ID)
  const table: [number, 'data' | 'hole', number][] = [
    [0, 'hole', 0], [0, 'data', 2 * Z], [5, 'data', 2 * Z], [2 * Z + 5, 'data', 2 * Z + 5], [2 * Z + 5, 'hole', 2 * Z + 1000],
    [2 * Z + 1000, 'data', -1], [3 * Z, 'hole', 3 * Z], [3 * Z + 1000, 'hole', -1], [-1, 'data', -1],
  ]
  for (const [offset, what, found] of table) t.equal(map.seek(offset, what), found, `${what} from ${offset}`)
  t.equal(build(id(1)).seek(3, 'hole'), 10, 'the end of a file counts as a hole')
})

t.test('a file of many chunks is built in slices', async t => {
  const count = 5000
  const ids = Buffer.concat(Array.from({ length: count }, (_, i) => i % 3 === 0 ? ZERO_CHUNK_ID : id(2)))
  const building = FileMap.build(ids, lengthOf)
  t.type(building, Promise)
  const map = await building as FileMap
  let end = 0
  for (let i = 0; i < count; i++) {
    end += i % 3 === 0 ? ZERO_CHUNK_LENGTH : 1000
    if (map.ends[i] !== end) t.fail(`chunk ${i} ends at ${map.ends[i]}, not ${end}`)
  }
  t.equal(map.size, end)
})
