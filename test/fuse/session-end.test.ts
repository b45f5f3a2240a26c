import t from 'tap'
import { spawn } from 'node:child_process'
import { promises as fs, accessSync, constants, mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { RequestId, SessionHandlers } from '../../src/native.js'
import { eventually, output, run, shell } from '../fixtures/run.js'
import { makeScratch, mountsBelow, removeScratch } from '../fixtures/scratch.js'
import { serve, serverPath } from '../fixtures/serve-tiny.js'
import { TinySession, type TinyEntry } from '../fixtures/tiny-session.js'

const isRoot = process.getuid?.() === 0

function scratch(test: Pick<typeof t, 'teardown'>): string {
  const dir = makeScratch('daybook-end')
  test.teardown(() => removeScratch(dir))
  return dir
}

function mounted(test: Pick<typeof t, 'teardown'>, root: TinyEntry[], replace?: (tiny: TinySession) => Partial<SessionHandlers>): { tiny: TinySession, dir: string } {
  const dir = scratch(test)
  const tiny = new TinySession(dir, root, replace)
  test.teardown(() => tiny.session.close())
  tiny.session.mount()
  return { tiny, dir }
}

const file: TinyEntry = { name: 'f', content: Buffer.from('abc') }

t.test('requests never answered get EIO when the session is closed', async t => {
  let asked = 0
  let three: () => void
  const all = new Promise<void>(resolve => { three = resolve })
  const count = () => {
    if (++asked === 3) three()
  }
  const { tiny, dir } = mounted(t, [file, { name: 'l', target: 'x' }], () => ({ read: count, readlink: count, lookup: (...args) => {
    if (args[2].toString() === 'never') count()
    else tiny.lookup(...args)
  } }))
  const outcomes = Promise.all([fs.readFile(join(dir, 'f')), fs.readlink(join(dir, 'l')), fs.stat(join(dir, 'never'))].map(one => one.then(() => 'fine', (error: NodeJS.ErrnoException) => error.code)))
  await all
  t.equal(tiny.session.stats()['pending'], 3)
  tiny.session.close()
  const [read, ...others] = await outcomes
  t.strictSame(others, ['EIO', 'EIO'])
  t.match(read, /^(EIO|ENOTCONN|ECONNABORTED)$/, 'the kernel asks once more for a page that failed')
  t.equal(tiny.session.stats()['pending'], 0)
  t.strictSame(mountsBelow(dir), [])
  t.throws(() => tiny.session.replyError(0, 5), { code: 'ERR_ANSWERED' })
  tiny.session.close()
})

t.test('closing inside of a handler, before or after its answer', async t => {
  for (const answer of [true, false]) {
    let late: unknown
    const { dir } = mounted(t, [file], self => ({
      read: (request: RequestId, ...rest) => {
        if (answer) self.read(request, ...rest)
        self.session.close()
        try {
          self.session.replyError(request, 5)
        } catch (error) {
          late = error
        }
      },
    }))
    const outcome = await fs.readFile(join(dir, 'f'), 'utf8').catch((error: NodeJS.ErrnoException) => error.code)
    // The kernel asks again for what was refused, and asks again behind the end: it may find the connection gone.
    t.match(outcome, answer ? /^(abc|ENOTCONN|ECONNABORTED)$/ : /^(EIO|ENOTCONN|ECONNABORTED)$/)
    t.match(late, { code: 'ERR_ANSWERED' })
    await eventually('unmounted', () => mountsBelow(dir).length === 0)
  }
})

t.test('unmounted from outside: closed(0), once', async t => {
  const errors: number[] = []
  let tell: () => void
  const closed = new Promise<void>(resolve => { tell = resolve })
  const { tiny, dir } = mounted(t, [file], () => ({ closed: errno => {
    errors.push(errno)
    tell()
  } }))
  await output('cat', [`${dir}/f`])
  await shell(`umount ${dir}`)
  await closed
  tiny.session.close()
  await new Promise(resolve => { setImmediate(resolve) })
  t.strictSame(errors, [0])
})

t.test('a connection that is aborted ends the session and takes the dead mount away', { skip: !isRoot && 'needs root' }, async t => {
  const { tiny, dir } = mounted(t, [file])
  const { minor } = tiny.session.device
  const control = `/sys/fs/fuse/connections/${minor}/abort`
  try {
    accessSync(control, constants.W_OK)
  } catch {
    t.comment(`${control} is not there: the control file system is not mounted`)
    return
  }
  await fs.writeFile(control, '1')
  t.equal(await tiny.closed, 0)
  t.strictSame(mountsBelow(dir), [])
})

t.test('close() leaves alone what was mounted over it, or instead of it', { skip: !isRoot && 'needs root' }, async t => {
  const { tiny, dir } = mounted(t, [file])
  await shell(`mount -t tmpfs over ${dir}`)
  tiny.session.close()
  t.equal(mountsBelow(dir).length, 2)
})

t.test('two sessions in one process are independent', async t => {
  const one = mounted(t, [{ name: 'f', content: Buffer.from('one') }]), two = mounted(t, [{ name: 'f', content: Buffer.from('two') }], self => ({
    read: (request, ...rest) => {
      one.tiny.session.close()  // from within another session's handler
      self.read(request, ...rest)
    },
  }))
  t.notSame(one.tiny.session.device, two.tiny.session.device)
  t.equal(await fs.readFile(join(one.dir, 'f'), 'utf8'), 'one')
  t.equal(await fs.readFile(join(two.dir, 'f'), 'utf8'), 'two')
  t.strictSame(mountsBelow(one.dir), [])
  t.strictSame(two.tiny.failures, [])
})

t.test('a hundred mounts one after the other, and twenty at once', async t => {
  for (let i = 0; i < 100; i++) {
    const { tiny, dir } = mounted({ teardown: () => {} } as never, [file])
    if (i % 10 === 0) await fs.readFile(join(dir, 'f'))
    tiny.session.close()
    rmdirSync(dir)
  }
  const all = Array.from({ length: 20 }, () => mounted(t, [file]))
  t.strictSame(await Promise.all(all.map(({ dir }) => fs.readFile(join(dir, 'f'), 'utf8'))), all.map(() => 'abc'))
  const descriptors = (await fs.readdir('/proc/self/fd')).length
  for (const { tiny } of all) tiny.session.close()
  t.equal((await fs.readdir('/proc/self/fd')).length, descriptors - 20)
})

t.test('mounting that fails says why', async t => {
  const dir = scratch(t)
  await fs.writeFile(join(dir, 'plain'), '')
  for (const { path, code } of [{ path: join(dir, 'missing'), code: 'ENOENT' }, { path: join(dir, 'plain', 'x'), code: 'ENOTDIR' }]) {
    const tiny = new TinySession(path, [])
    t.throws(() => tiny.session.mount(), { code, errno: Number, syscall: 'mount', message: path })
    tiny.session.close()
  }
  const odd = new TinySession(dir, [], undefined, { mountOptions: ['no_such_option'] })
  t.throws(() => odd.session.mount(), { code: isRoot ? 'EINVAL' : /^E/ } as never)
  const twice = new TinySession(dir, [])
  t.throws(() => twice.session.device, { code: 'ERR_STATE' })
  twice.session.mount()
  t.throws(() => twice.session.mount(), { code: 'ERR_STATE' })
  twice.session.close()
  t.throws(() => twice.session.mount(), { code: 'ERR_STATE' })
})

t.test('paths with spaces, backslashes and bytes that are not UTF-8 are found and unmounted', async t => {
  const dir = scratch(t)
  const odd = join(dir, 'a b\\c\n,d')
  mkdirSync(odd)
  const tiny = new TinySession(odd, [file])
  tiny.session.mount()
  t.ok(tiny.session.device.minor > 0)
  t.equal(await fs.readFile(join(odd, 'f'), 'utf8'), 'abc')
  tiny.session.close()
  rmdirSync(odd)
})

t.test('the process: ', async t => {
  await t.test('serves, and ends once unmounted from outside', async t => {
    const dir = scratch(t)
    const server = serve(dir)
    t.match(await server.said, { ready: { major: 0, minor: Number } })
    t.equal((await output('cat', [`${dir}/plain`])).toString(), 'plain\n')
    await shell(`umount ${dir}`)
    t.equal(await server.ended, 0)
  })
  await t.test('ends once it closed the session in a handler', async t => {
    const dir = scratch(t)
    const server = serve(dir)
    await server.said
    t.not((await run('cat', [`${dir}/close`])).code, 0)
    t.equal(await server.ended, 0)
    t.strictSame(mountsBelow(dir), [])
  })
  await t.test('unmounts at process.exit(), also in a handler', async t => {
    const dir = scratch(t)
    const server = serve(dir)
    await server.said
    t.not((await run('cat', [`${dir}/exit`])).code, 0)
    t.equal(await server.ended, 0)
    t.strictSame(mountsBelow(dir), [])
  })
  await t.test('a worker thread that is terminated unmounts, with a request open', async t => {
    const dir = scratch(t)
    const worker = new Worker(serverPath, { workerData: { mountpoint: dir } })
    const ready = new Promise(resolve => { worker.once('message', resolve) })
    t.match(await ready, { ready: { major: 0 } })
    t.equal(await fs.readFile(join(dir, 'plain'), 'utf8'), 'plain\n')
    const reading = fs.readFile(join(dir, 'never')).catch((error: NodeJS.ErrnoException) => error.code)
    await eventually('the read is under way', async () => (await shell('true'), true))
    await worker.terminate()
    t.match(await reading, /EIO|ENOTCONN|ECONNABORTED|ENOENT/)
    t.strictSame(mountsBelow(dir), [])
  })
  await t.test('a session that nobody holds goes on', async t => {
    const dir = scratch(t)
    const code = `import { createRequire } from 'node:module'
      const { TinySession } = await import(${JSON.stringify(new URL('../fixtures/tiny-session.js', import.meta.url).href)})
      ;(() => { new TinySession(${JSON.stringify(dir)}, [{ name: 'f', content: Buffer.from('abc') }]).session.mount() })()
      for (let i = 0; i < 10; i++) { globalThis.gc(); await new Promise(setImmediate) }
      console.log('"ready"')`
    const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = new Promise(resolve => { child.on('exit', resolve) })
    await new Promise(resolve => { child.stdout.once('data', resolve) })
    t.equal((await output('cat', [`${dir}/f`])).toString(), 'abc')
    await shell(`umount ${dir}`)
    t.equal(await ended, 0)
  })
})
