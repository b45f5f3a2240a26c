import { Worker } from 'node:worker_threads'
import t from 'tap'
import { native } from '../../src/native.js'

t.test('a blob gives its bytes until it is freed', async t => {
  const source = Buffer.from('some bytes')
  const blob = native.Blob.from(source)
  source.fill(0)
  t.same([blob.length, blob.bytes().toString()], [10, 'some bytes'])
  blob.bytes().fill(0)
  t.equal(blob.bytes().toString(), 'some bytes', 'what was given is a copy')
  blob.free()
  blob.free()
  t.equal(blob.length, 0)
  t.throws(() => blob.bytes(), { code: 'ERR_FREED' })
})

t.test('an empty blob', async t => {
  const blob = native.Blob.from(new Uint8Array(0))
  t.same([blob.length, blob.bytes().length], [0, 0])
  blob.free()
})

t.test('blobs are made here only', async t => {
  const Blob = native.Blob as unknown as { new(): unknown, prototype: object, from(value: unknown): unknown }
  t.throws(() => new Blob(), TypeError)
  t.throws(() => Blob.from('text'), TypeError)
  t.throws(() => (Object.create(Blob.prototype) as { bytes(): Buffer }).bytes())
})

t.test('memory is counted, kept for the next blob, and not without limit', async t => {
  const { live, idle } = native.Blob.memory()
  const MIB = 1024 * 1024
  const blobs = Array.from({ length: 64 }, () => native.Blob.from(Buffer.alloc(MIB)))
  const used = native.Blob.memory()
  t.ok(used.live >= live + 64 * MIB && used.live <= live + 96 * MIB, `${used.live}`)
  for (const blob of blobs) blob.free()
  const after = native.Blob.memory()
  t.equal(after.live, live)
  t.ok(after.idle > idle && after.idle <= 24 * MIB, `${after.idle}`)
  const again = native.Blob.from(Buffer.alloc(MIB))
  t.equal(native.Blob.memory().idle, after.idle - MIB)
  again.free()
  const large = native.Blob.from(Buffer.alloc(9 * MIB))
  t.equal(native.Blob.memory().idle, after.idle, 'a large one comes from the system')
  large.free()
  t.equal(native.Blob.memory().idle, after.idle, 'and goes back to it')
})

t.test('each worker thread has blobs of its own', async t => {
  const path = new URL('../../../build/Release/daybook.node', import.meta.url).pathname
  const code = `const { Blob } = require(${JSON.stringify(path)})
    const blob = Blob.from(Buffer.from('in a worker'))
    require('node:worker_threads').parentPort.postMessage(blob.bytes().toString())`
  const messages = await Promise.all([1, 2, 3].map(() => new Promise((resolve, reject) => new Worker(code, { eval: true }).once('message', resolve).once('error', reject))))
  t.same(messages, ['in a worker', 'in a worker', 'in a worker'])
})
