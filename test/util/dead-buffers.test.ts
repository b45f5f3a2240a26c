import t from 'tap'
import { DeadBuffers } from '../../src/util/dead-buffers.js'

const turn = () => new Promise(setImmediate)

t.test('collects once per so many bytes, at the end of a turn', async t => {
  let collections = 0
  const buffers = new DeadBuffers(100, () => { collections++ })
  buffers.made(99)
  await turn()
  t.equal(collections, 0)
  for (let i = 0; i < 10; i++) buffers.made(50)
  t.equal(collections, 0, 'not in the turn of who makes them')
  await turn()
  t.equal(collections, 1)
  buffers.made(99)
  await turn()
  t.equal(collections, 1, 'counted from the collection on')
})

t.test('memory of dead buffers is given back', async t => {
  const buffers = new DeadBuffers(1 << 20)
  let most = 0
  for (let i = 0; i < 200; i++) {
    Buffer.alloc(1 << 20)
    buffers.made(1 << 20)
    await turn()
    await turn()
    most = Math.max(most, process.memoryUsage().arrayBuffers)
  }
  t.ok(most < 24 << 20, `${most >> 20} MiB at most, of 200`)
})
