import t from 'tap'
import { promises as fs } from 'node:fs'
import { join } from 'node:path'
import { native, type Push, type RequestId, type SessionHandlers } from '../../src/native.js'
import { randomBytes } from '../fixtures/bytes.js'
import { output, shell } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { requestsDuring, TinySession, type TinyEntry } from '../fixtures/tiny-session.js'

function mounted(test: Pick<typeof t, 'teardown'>, root: TinyEntry[], replace?: (tiny: TinySession) => Partial<SessionHandlers>): { tiny: TinySession, dir: string } {
  const dir = makeScratch('daybook-push')
  const tiny = new TinySession(dir, root, replace)
  test.teardown(() => {
    tiny.session.close()
    removeScratch(dir)
  })
  tiny.session.mount()
  return { tiny, dir }
}

t.test('what was pushed is read without a request', async t => {
  const files = Array.from({ length: 300 }, (_, i) => ({ name: `f${i}`, content: randomBytes(i, [0, 1, 4095, 4096, 4097, 100_000][i % 6]!) }))
  const { tiny, dir } = mounted(t, [{ name: 'd', children: files }])
  await shell(`ls ${dir}/d`)
  const items = files.map(({ name, content }, i): Push => [tiny.node('d', name), 0, native.Blob.from(Buffer.concat([Buffer.alloc(i), content])), i, content.length])
  const pushing = tiny.session.push(items)
  for (const [, , blob] of items) blob.free()  // the session keeps what it needs
  t.equal(await pushing, files.length)
  const requests = await requestsDuring(tiny.session, async () => {
    for (const { name, content } of files) t.ok((await fs.readFile(join(dir, 'd', name))).equals(content), name)
  })
  t.notOk(requests['read'], `${requests['read'] ?? 0} reads`)
  t.match(tiny.session.stats(), { pushed: files.length, bytesPushed: files.reduce((sum, { content }) => sum + content.length, 0) })
})

t.test('a file may be pushed in pieces, in any order', async t => {
  const content = randomBytes('pieces', 4096 * 9 + 5)
  const { tiny, dir } = mounted(t, [{ name: 'f', content }])
  await shell(`ls ${dir}`)
  const blob = native.Blob.from(content)
  const pieces = [[8, 1], [0, 3], [5, 3], [3, 2]].map(([page, pages]): Push => [tiny.node('f'), page! * 4096, blob, page! * 4096, pages! * 4096])
  pieces.push([tiny.node('f'), 9 * 4096, blob, 9 * 4096, 5])
  t.equal(await tiny.session.push(pieces), 5)
  const { read = 0 } = await requestsDuring(tiny.session, async () => t.ok((await output('cat', [`${dir}/f`])).equals(content)))
  t.equal(read, 0)
})

t.test('many megabytes in one push', async t => {
  const content = randomBytes('large', (20 << 20) + 17)
  const { tiny, dir } = mounted(t, [{ name: 'f', content }])
  await shell(`ls ${dir}`)
  t.equal(await tiny.session.push([[tiny.node('f'), 0, native.Blob.from(content), 0, content.length]]), 1)
  const { read = 0 } = await requestsDuring(tiny.session, async () => t.ok((await output('cat', [`${dir}/f`])).equals(content)))
  t.equal(read, 0)
})

t.test('a node that the kernel does not know is not an error', async t => {
  const { tiny, dir } = mounted(t, [{ name: 'f', content: Buffer.from('abc') }, { name: 'g', content: Buffer.from('def') }])
  await fs.stat(join(dir, 'g'))
  t.equal(await tiny.session.push([[12345, 0, native.Blob.from(Buffer.from('x')), 0, 1]]), 0)
  t.equal(await tiny.session.push([[tiny.node('f'), 0, native.Blob.from(Buffer.from('abc')), 0, 3], [tiny.node('g'), 0, native.Blob.from(Buffer.from('def')), 0, 3]]), 1)
  t.equal(await tiny.session.push([]), 0)
})

t.test('a push that waits for a page whose read is unanswered holds up nobody', async t => {
  let hold: (request: RequestId) => void
  const held = new Promise<RequestId>(resolve => { hold = resolve })
  const { tiny, dir } = mounted(t, [{ name: 'f', content: Buffer.from('abc') }, { name: 'other', content: Buffer.from('other') }], self => ({
    read: (request, node, offset, size) => {
      if (self.entry(node).name === 'f') hold(request)
      else self.read(request, node, offset, size)
    },
  }))
  const reading = fs.readFile(join(dir, 'f'), 'utf8')
  const request = await held
  let settled = false
  const pushing = tiny.session.push([[tiny.node('f'), 0, native.Blob.from(Buffer.from('abc')), 0, 3]]).finally(() => { settled = true })
  t.equal(await fs.readFile(join(dir, 'other'), 'utf8'), 'other', 'another file meanwhile')
  t.notOk(settled)
  tiny.session.replyBytes(request, Buffer.from('abc'))
  t.equal(await reading, 'abc')
  t.equal(await pushing, 1)
})

t.test('closing while a push waits for an unanswered read does not hang', async t => {
  for (const when of ['later', 'in the handler']) {
    let hold: () => void
    const held = new Promise<void>(resolve => { hold = resolve })
    const files = Array.from({ length: 40 }, (_, i) => ({ name: `f${i}`, content: randomBytes(i, 300_000) }))
    let pushing: Promise<number> | undefined
    const { tiny, dir } = mounted(t, files, self => ({
      read: () => {
        pushing ??= self.session.push(files.map(({ name, content }): Push => [self.node(name), 0, native.Blob.from(content), 0, content.length]))
        if (when !== 'later') self.session.close()
        hold()
      },
    }))
    // More readers than the kernel has sent us when the session is closed: some of their pages are locked by requests not yet read.
    await shell(`ls ${dir}`)
    const reading = Promise.all(files.map(({ name }) => shell(`cat ${dir}/${name} >/dev/null`).then(() => 'read', (error: Error) => String(error))))
    await held
    tiny.session.close()
    for (const outcome of await reading) t.match(outcome, /^read$|Input\/output error|not connected|connection abort|No such file/)
    t.type(await pushing, 'number', when)
    t.equal(await tiny.session.push([[5, 0, native.Blob.from(Buffer.from('x')), 0, 1]]), 0, 'pushed after the end')
    await tiny.session.invalidateNode(5)
  }
})

t.test('invalidation', async t => {
  let content = Buffer.from('one')
  const { tiny, dir } = mounted(t, [{ name: 'f', content }], self => ({ read: request => self.session.replyBytes(request, content) }))
  t.equal(await fs.readFile(join(dir, 'f'), 'utf8'), 'one')
  content = Buffer.from('two')
  t.equal(await fs.readFile(join(dir, 'f'), 'utf8'), 'one', 'kept')
  await tiny.session.invalidateNode(tiny.node('f'))
  t.equal(await fs.readFile(join(dir, 'f'), 'utf8'), 'two')
  await tiny.session.invalidateEntry(1, Buffer.from('f'))
  t.equal((await requestsDuring(tiny.session, () => fs.stat(join(dir, 'f'))))['lookup'], 1)
  await tiny.session.invalidateEntry(1, Buffer.from('unknown'))
  await tiny.session.invalidateNode(999)
})

t.test('pushes that are not sound throw before anything is sent', async t => {
  const { tiny } = mounted(t, [{ name: 'f', content: Buffer.from('abc') }])
  const blob = native.Blob.from(Buffer.alloc(10)), freed = native.Blob.from(Buffer.alloc(10))
  freed.free()
  for (const { item, code } of [
    { item: [1, 0, blob, 5, 6], code: 'ERR_OUT_OF_RANGE' }, { item: [-1, 0, blob, 0, 1], code: 'ERR_OUT_OF_RANGE' }, { item: [1, 0.5, blob, 0, 1], code: 'ERR_OUT_OF_RANGE' },
    { item: [1, 0, blob, 0, NaN], code: 'ERR_OUT_OF_RANGE' }, { item: [1, 0, freed, 0, 1], code: 'ERR_FREED' }, { item: [1, 0, {}, 0, 1], code: 'ERR_FREED' },
  ]) t.throws(() => tiny.session.push([[1, 0, blob, 0, 1], item as unknown as Push]), { code })
  t.throws(() => tiny.session.push([5 as unknown as Push]), TypeError)
  t.equal(tiny.session.stats()['pushed'], 0)
})
