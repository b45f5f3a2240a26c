import t from 'tap'
import { BlockBackend } from '../../src/backend/block-backend.js'
import { MemoryBackend } from '../../src/backend/memory.js'
import { random, randomBytes } from '../fixtures/bytes.js'
import { FaultyBackend, type Fault } from '../fixtures/faulty-backend.js'

const PACK = { type: 'data', name: 'cd'.repeat(32) } as const
const DATA = randomBytes('blocks', 100_500)
const BLOCK = 1000

function blocks(faults: Fault[] = [], maxBytes = 200_000) {
  const memory = new MemoryBackend()
  memory.put(PACK, DATA)
  const inner = new FaultyBackend(memory, faults)
  return { inner, memory, backend: new BlockBackend(inner, maxBytes, BLOCK), reads: () => inner.calls.filter(call => call.startsWith('read ')).length }
}
const right = (bytes: Buffer, offset: number) => bytes.equals(DATA.subarray(offset, offset + bytes.length))

t.test('short ranges come out of blocks, each of which is read once', async t => {
  const { backend, reads } = blocks()
  const next = random(1)
  await Promise.all(Array.from({ length: 2000 }, async () => {
    const offset = Math.floor(next() * (DATA.length - 500))
    const length = 1 + Math.floor(next() * 499)
    if (!right(await backend.read(PACK, offset, length), offset)) t.fail(`${length} at ${offset}`)
  }))
  t.ok(reads() <= 101, `${reads()} reads`)
  t.ok(right(await backend.read(PACK, DATA.length - 10, 10), DATA.length - 10), 'to the very end')
})

t.test('long ranges are read as they are', async t => {
  const { backend, reads } = blocks()
  t.ok(right(await backend.read(PACK, 10, 501), 10))
  t.ok(right(await backend.read(PACK, 10, 501), 10))
  t.equal(reads(), 2)
})

t.test('bytes that proved wrong are read anew', async t => {
  const { backend } = blocks([{ kind: 'flip', operation: 'read', times: 1 }])
  t.notOk(right(await backend.read(PACK, 400, 200), 400))
  t.ok(right(await backend.read(PACK, 400, 200, { again: 1 }), 400))
  t.ok(right(await backend.read(PACK, 400, 200), 400), 'and the block with them')
})

t.test('a block that cannot be had is no reason for the range not to be', async t => {
  const { backend } = blocks([{ kind: 'fail', operation: 'read', times: 1 }])
  t.ok(right(await backend.read(PACK, 0, 100), 0))
})

t.test('who gives up takes nobody along', async t => {
  const { backend, inner } = blocks([{ kind: 'stall', operation: 'stat', times: 1 }])
  const controller = new AbortController()
  const reading = backend.read(PACK, 0, 100, { signal: controller.signal })
  controller.abort()
  await t.rejects(reading, { code: 'ERR_ABORTED' })
  inner.faults = []
  const other = backend.read(PACK, 0, 100)
  await backend.close()
  t.ok(right(await other, 0), 'by itself, when the block comes to nothing')
})

t.test('where blocks are of no use, ranges are read by themselves', async t => {
  const { backend, memory } = blocks([], 2 * BLOCK)
  let bytes = 0
  const read = memory.read.bind(memory)
  memory.read = (handle, offset, length, options) => {
    bytes += length
    return read(handle, offset, length, options)
  }
  for (let round = 0; round < 20; round++) for (let offset = 0; offset < 100_000; offset += BLOCK) await backend.read(PACK, offset, 10)
  t.ok(bytes < 2 * 2 * BLOCK + 20_000 * 4 + BLOCK, `${bytes} for 20000 asked`)
})
