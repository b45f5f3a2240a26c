import t from 'tap'
import { WriteQueue, type Write } from '../../src/cache/disk/write-queue.js'
import { randomBytes } from '../fixtures/bytes.js'

const MiB = 1 << 20

/** A disk that takes what it is told to take. */
class Disk {
  readonly taken: { name: string, offset: number, bytes: Buffer }[] = []
  #go: (() => void)[] = []
  open = false
  readonly busy = new Set<string>()
  readonly perform = async ({ name, offset, chunks }: Write): Promise<void> => {
    if (this.busy.has(name)) throw new Error(`${name} is being written`)
    this.busy.add(name)
    if (!this.open) await new Promise<void>(resolve => this.#go.push(resolve))
    this.taken.push({ name, offset, bytes: Buffer.concat(chunks) })
    this.busy.delete(name)
  }

  release(): void {
    this.open = true
    for (const go of this.#go.splice(0)) go()
  }
}

t.test('holds so many bytes and no more, answers for them, and gives them to the disk', async t => {
  const disk = new Disk()
  const queue = new WriteQueue(10 * MiB, disk.perform)
  const bytes = randomBytes('bytes', 4 * MiB)
  t.ok(queue.put('a', 'data', 1000, bytes))
  t.ok(queue.put('b', 'data', 0, bytes.subarray(0, 5 * MiB)))
  const original = Buffer.from(bytes)
  bytes.fill(0)
  t.notOk(queue.put('c', 'data', 0, Buffer.alloc(3 * MiB)), 'full')
  const into = Buffer.alloc(2 * MiB)
  t.ok(queue.read('a', 1000 + MiB - 7, into))
  t.ok(into.equals(original.subarray(MiB - 7, 3 * MiB - 7)), 'a copy, over the borders of its pieces')
  for (const [name, offset, length] of [['a', 999, 10], ['a', 1000 + 4 * MiB - 1, 2], ['z', 0, 1]] as const) t.notOk(queue.read(name, offset, Buffer.alloc(length)))
  const started = performance.now()
  await queue.room(3 * MiB, 50)
  t.ok(performance.now() - started >= 45, 'room is waited for, but not for ever')
  const room = queue.room(3 * MiB, 10_000)
  await new Promise(setImmediate)
  disk.release()
  await room
  t.ok(queue.put('c', 'data', 0, Buffer.alloc(3 * MiB)))
  await queue.drained()
  t.strictSame(disk.taken.map(({ name, offset }) => ({ name, offset })), [{ name: 'a', offset: 1000 }, { name: 'b', offset: 0 }, { name: 'c', offset: 0 }])
  t.ok(disk.taken[0].bytes.equals(original))
  t.equal(queue.bytes, 0)
  t.notOk(queue.read('a', 1000, into))
})

t.test('the youngest of two writes answers', async t => {
  const disk = new Disk()
  const queue = new WriteQueue(MiB, disk.perform)
  queue.put('a', 'data', 0, Buffer.from('wrong'))
  queue.put('a', 'data', 0, Buffer.from('right'))
  const into = Buffer.alloc(5)
  t.ok(queue.read('a', 0, into))
  t.equal(into.toString(), 'right')
  await new Promise(resolve => setTimeout(resolve, 10))
  t.strictSame([...disk.busy], ['a'])
  disk.release()
  await queue.drained()
  t.strictSame(disk.taken.map(({ bytes }) => bytes.toString()), ['wrong', 'right'], 'they stay in order')
  disk.open = false
  queue.put('b', 'data', 0, Buffer.from('one'))
  queue.put('b', 'data', 3, Buffer.from('two'))
  await new Promise(resolve => setTimeout(resolve, 10))
  queue.drop()
  disk.release()
  await queue.drained()
  t.equal(queue.bytes, 0)
  t.equal(disk.taken.length, 3, 'what was not begun is forgotten')
})
