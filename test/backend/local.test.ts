import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LocalBackend } from '../../src/backend/local.js'
import { OpenFiles } from '../../src/backend/open-files.js'

const NAME = 'ab'.repeat(32)
const PACK = { type: 'data', name: NAME } as const

t.test('folders and files may be symbolic links', async t => {
  const root = t.testdir({ elsewhere: { ab: { [NAME]: 'pack' } }, 'some-key': 'key', keys: {}, config: 'config' })
  symlinkSync('elsewhere', join(root, 'data'))
  symlinkSync('../some-key', join(root, 'keys', NAME))
  const backend = new LocalBackend(root)
  t.strictSame(await backend.list('data'), [{ name: NAME, size: 4 }])
  t.strictSame(await backend.list('keys'), [{ name: NAME, size: 3 }])
  t.equal((await backend.read(PACK, 1, 2)).toString(), 'ac')
  await backend.close()
})

t.test('a pack that lies at both places is listed once', async t => {
  const backend = new LocalBackend(t.testdir({ data: { ab: { [NAME]: 'pack' }, [NAME]: 'pack' } }))
  t.strictSame(await backend.list('data'), [{ name: NAME, size: 4 }])
})

t.test('a name that is no file name of a repository leads nowhere', async t => {
  const backend = new LocalBackend(t.testdir({ secret: 'x', data: {}, keys: {} }))
  for (const name of ['../secret', '', '.', NAME.toUpperCase(), `${NAME}/`, NAME.slice(1)]) {
    await t.rejects(backend.readAll({ type: 'keys', name }, 10), { code: 'ERR_USAGE' }, JSON.stringify(name))
    await t.rejects(backend.read({ type: 'data', name }, 0, 1), { code: 'ERR_USAGE' }, JSON.stringify(name))
  }
})

t.test('what is no regular file in a place where one should be', async t => {
  const root = t.testdir({ config: {}, data: { ab: {} }, index: 'a file' })
  execFileSync('mkfifo', [join(root, 'data/ab', NAME)])
  const backend = new LocalBackend(root)
  await t.rejects(backend.readAll({ type: 'config', name: '' }, 100), { code: 'ERR_CORRUPT', reason: 'not a regular file' })
  await t.rejects(backend.read(PACK, 0, 1), { code: 'ERR_CORRUPT' }, 'a FIFO does not make anybody wait')
  await t.rejects(backend.readAll(PACK, 1), { code: 'ERR_CORRUPT' })
  t.strictSame(await backend.list('data'), [], 'and is not listed')
  t.strictSame(await backend.list('index'), [], 'a file in the place of a folder')
  await backend.close()
})

// root reads everything, so this is seen only as somebody else
t.test('no permission is said clearly, and is not worth a retry', async t => {
  const root = t.testdir({ config: 'x', keys: { [NAME]: 'key' }, data: {} })
  chmodSync(join(root, 'config'), 0)
  chmodSync(join(root, 'keys'), 0)
  const asNobody = process.getuid?.() === 0
  if (asNobody) process.seteuid!(65534)
  const backend = new LocalBackend(root)
  try {
    await t.rejects(backend.readAll({ type: 'config', name: '' }, 100), { name: 'AccessError', code: 'ERR_UNREACHABLE', retryable: false, hint: /permissions/ })
    await t.rejects(backend.list('keys'), { name: 'AccessError', file: join(root, 'keys') })
  } finally {
    if (asNobody) process.seteuid!(0)
    chmodSync(join(root, 'keys'), 0o755)
  }
})

t.test('open files', async t => {
  let now = 0
  const files = (t: { testdirName: string }) => {
    const open = new OpenFiles({ max: 2, idleMs: 1e9, trustMs: 1000, now: () => now })
    const path = (name: string) => join(t.testdirName, name)
    const text = async (name: string, offset = 0, length = 3) => (await open.read(path(name), offset, length)).toString()
    return { open, path, text }
  }

  t.test('no more are kept than allowed, the latest used', async t => {
    t.testdir({ a: 'aaa', b: 'bbb', c: 'ccc' })
    const { open, text } = files(t)
    for (const name of ['a', 'b', 'c', 'a', 'b', 'c']) t.equal(await text(name), name.repeat(3))
    t.equal(open.size, 2)
    t.strictSame(await Promise.all(['a', 'b', 'c', 'a', 'b', 'c'].map(name => text(name))), ['aaa', 'bbb', 'ccc', 'aaa', 'bbb', 'ccc'], 'all at once')
    await open.close()
    t.equal(open.size, 0)
  })

  t.test('a file replaced is seen after a moment', async t => {
    t.testdir({ a: 'old', b: 'new' })
    const { open, path, text } = files(t)
    t.equal(await text('a'), 'old')
    renameSync(path('b'), path('a'))
    t.equal(await text('a'), 'old', 'what was open stays right for a while')
    now += 1001
    t.equal(await text('a'), 'new')
    await open.close()
  })

  t.test('a file deleted is gone after a moment, and its space is given back', async t => {
    t.testdir({ a: 'old' })
    const { open, path, text } = files(t)
    t.equal(await text('a'), 'old')
    rmSync(path('a'))
    t.equal(await text('a'), 'old')
    now += 1001
    await t.rejects(open.read(path('a'), 0, 3), { code: 'ENOENT' })
    t.equal(open.size, 0)
    await open.close()
  })

  t.test('a file that was too short is opened again at once: it may have been replaced by the whole one', async t => {
    t.testdir({ a: 'ol', b: 'new' })
    const { open, path, text } = files(t)
    t.equal(await text('a'), 'ol')
    renameSync(path('b'), path('a'))
    t.equal(await text('a'), 'new')
    await open.close()
  })

  t.test('a file that cannot be opened is not kept', async t => {
    t.testdir({})
    const { open, path, text } = files(t)
    await t.rejects(open.read(path('a'), 0, 1), { code: 'ENOENT' })
    t.equal(open.size, 0)
    mkdirSync(t.testdirName, { recursive: true })
    writeFileSync(path('a'), 'now')
    t.equal(await text('a'), 'now')
    await open.close()
  })
})
