import { spawn } from 'node:child_process'
import t from 'tap'
import { constants, promises as fs } from 'node:fs'
import { constants as os } from 'node:os'
import { join } from 'node:path'
import { native, type RequestId, type SessionHandlers, type SessionOptions } from '../../src/native.js'
import { join as joinBytes, randomBytes } from '../fixtures/bytes.js'
import { eventually, output, run, shell } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { requestsDuring, tinyRows, TinySession, type TinyEntry } from '../fixtures/tiny-session.js'

const { EIO, ENODATA, EOPNOTSUPP, ENOENT } = os.errno

function mounted(test: Pick<typeof t, 'teardown'>, root: TinyEntry[], replace?: (tiny: TinySession) => Partial<SessionHandlers>, options?: Partial<SessionOptions>): { tiny: TinySession, dir: string } {
  const dir = makeScratch('daybook-session')
  const tiny = new TinySession(dir, root, replace, options)
  test.teardown(() => {
    tiny.session.close()
    removeScratch(dir)
  })
  tiny.session.mount()
  return { tiny, dir }
}

t.test('a listing brings the attributes, and the second one asks nothing', async t => {
  const count = 20_000
  const files = Array.from({ length: count }, (_, i) => ({ name: `file-${i}`, content: Buffer.alloc(i % 1000) }))
  const { tiny, dir } = mounted(t, [{ name: 'big', children: files }])
  const list = () => output('find', [`${dir}/big`, '-type', 'f', '-printf', '%f %s %m\n'])
  let first: Buffer = Buffer.alloc(0)
  const cold = await requestsDuring(tiny.session, async () => { first = await list() })
  const lines = first.toString().trim().split('\n')
  t.strictSame(lines.sort(), files.map(({ name, content }) => `${name} ${content.length} 644`).sort())
  t.ok((cold['getattr'] ?? 0) <= 1, 'no file was asked for its attributes, only the root')
  t.ok(cold['readdirplus']! < count / 10, `${cold['readdirplus']} listing requests`)
  const { statfs, ...second } = await requestsDuring(tiny.session, async () => t.strictSame(await list(), first))  // find(1) asks for the type of the file system
  t.strictSame(second, {}, 'second listing')
})

t.test('the last request of an immutable listing is answered without JavaScript, which hears of it', async t => {
  const asked: number[] = [], listed: number[] = []
  const { tiny, dir } = mounted(t, [{ name: 'd', children: [{ name: 'x' }, { name: 'y' }] }], self => ({
    readdirplus: (request, node, offset) => {
      asked.push(offset)
      self.readdirplus(request, node)
    },
    listed: node => { listed.push(node) },
  }))
  await shell(`ls ${dir}/d`)
  t.strictSame(asked, [0])
  t.strictSame(listed, [tiny.node('d')])
  t.equal(tiny.session.stats()['readdirplus'], 2)
})

t.test('a listing that may change is always asked to its end', async t => {
  const answers: number[] = []
  const { dir } = mounted(t, [{ name: 'x' }], self => ({
    readdirplus: (request, node) => {
      const { rows, ino, fileBase, directoryBase } = self.directory(node)
      answers.push(self.session.replyDirents(request, rows, { ino, parentIno: ino, fileBase, directoryBase, nodes: Float64Array.of(4711), ttl: 1, immutable: false }))
    },
    listed: () => { throw new Error('not immutable') },
    getattr: (request, node) => node === 4711 ? self.getattr(request, self.node('x')) : self.getattr(request, node),
  }))
  t.equal((await shell(`ls -l ${dir}`)).toString().split('\n').length, 3)
  t.strictSame(answers, [3, 0])
})

t.test('names are bytes', async t => {
  const names = [...Array(255).keys()].map(i => Buffer.of(i + 1)).filter(name => !['/', '.'].includes(name.toString('latin1')))
  names.push(Buffer.alloc(255, 0xff), Buffer.from('ä\n"\\\''), Buffer.from([0xc3, 0xa4, 0xc3]))
  const { tiny, dir } = mounted(t, [{ name: 'd', children: names.map(name => ({ name, content: name })) }])
  for (const name of names) {
    t.strictSame(await fs.readFile(joinBytes(dir, 'd', name)), name, `looked up ${name.toString('hex')}`)
  }
  t.equal(tiny.session.stats()['lookup'], names.length + 1)
  const listed = await fs.readdir(join(dir, 'd'), { encoding: 'buffer' })
  t.strictSame(listed.sort(Buffer.compare), [...names].sort(Buffer.compare))
  await t.rejects(fs.stat(joinBytes(dir, 'd', Buffer.from([0xc3, 0xa4]))), { code: 'ENOENT' })
})

t.test('names that the kernel would refuse a directory for are left out alone', async t => {
  const { dir } = mounted(t, [{ name: 'd', children: ['', '.', '..', 'a/b', 'x'.repeat(256), 'good'].map(name => ({ name })) }])
  t.strictSame(await fs.readdir(join(dir, 'd')), ['good'])
})

t.test('attributes', async t => {
  const root: TinyEntry[] = [
    { name: 'old', mtime: [-86_401n, 999_999_999], mode: 0o4755, uid: 4_294_967_294, gid: 77, content: Buffer.alloc(513) },
    { name: 'link', target: Buffer.from([0x80, 0xff]) },
    { name: 'fifo', mode: 0o010600 },
    { name: 'sparse', hole: 2 ** 40 },
    { name: 'dir', children: [], mode: 0o1777 },
  ]
  const { tiny, dir } = mounted(t, root)
  const list = async () => (await output('find', [dir, '-mindepth', '1', '-printf', '%f %#m %U %G %s %b %y %n\n'])).toString().trim().split('\n').sort()
  const expected = ['dir 01777 0 0 0 0 d 2', 'fifo 0600 0 0 0 0 p 1', 'link 0777 0 0 2 0 l 1', 'old 04755 4294967294 77 513 2 f 1', 'sparse 0644 0 0 1099511627776 0 f 1']
  t.strictSame(await list(), expected)
  const old = await fs.stat(join(dir, 'old'), { bigint: true })
  t.equal(old.mtimeNs, -86_401n * 1_000_000_000n + 999_999_999n)
  t.equal(old.ino, 1000n + BigInt(tiny.directories[0]!.entries.findIndex(entry => entry.name === 'old')))
  t.equal(BigInt.asUintN(64, (await fs.stat(join(dir, 'dir'), { bigint: true })).ino), native.directoryIno(1n, 0))
  t.strictSame(await fs.readlink(join(dir, 'link'), { encoding: 'buffer' }), Buffer.from([0x80, 0xff]))
  t.match(await fs.statfs(dir), { blocks: 1000, bfree: 0, files: 77, bsize: 4096 })
  const { major, minor } = tiny.session.device
  t.equal((await fs.stat(dir)).dev, major * 256 + minor)
})

t.test('an owner given with the session is everybody\'s', async t => {
  const { dir } = mounted(t, [{ name: 'd', uid: 5, children: [{ name: 'f', uid: 6, gid: 7 }] }], undefined, { owner: { uid: 1234, gid: 5678 } })
  await shell(`stat ${dir}/d/f`)
  t.strictSame((await output('find', [dir, '-printf', '%U %G\n'])).toString(), '1234 5678\n'.repeat(3))
})

t.test('times to live', async t => {
  for (const { ttl, asked } of [{ ttl: Infinity, asked: 0 }, { ttl: 1e300, asked: 0 }, { ttl: 3600.5, asked: 0 }, { ttl: 0, asked: 3 }]) {
    const { tiny, dir } = mounted(t, [{ name: 'f' }])
    tiny.attrTtl = tiny.entryTtl = ttl
    await fs.stat(join(dir, 'f'))
    await fs.stat(join(dir, 'none')).catch(() => {})
    const requests = await requestsDuring(tiny.session, async () => {
      for (let i = 0; i < 3; i++) await fs.stat(join(dir, 'f'))
      await fs.stat(join(dir, 'none')).catch(() => {})
    })
    t.equal(requests['lookup'] ?? 0, asked + (asked && 1), `lookups with ${ttl} s`)
    t.ok(asked || !requests['getattr'], `attributes with ${ttl} s`)
  }
})

t.test('reads are gathered from parts', async t => {
  const bytes = randomBytes('parts', 3 << 20)
  const blobs = [0, 1, 2].map(i => native.Blob.from(bytes.subarray(i << 20, (i + 1) << 20)))
  // Alternating pieces of the blobs and zeros; 7 and 2000 of them in one answer (more than IOV_MAX).
  for (const pieces of [1, 7, 2000]) {
    const want: Buffer[] = []
    const { dir } = mounted(t, [{ name: 'f', hole: 1 << 20 }], self => ({
      read: (request, _node, offset, size) => {
        const parts: Parameters<typeof self.session.replyBlobs>[1] = []
        const step = Math.ceil(size / pieces)
        for (let at = 0; at < size; at += step) {
          const length = Math.min(step, size - at), zeros = at / step % 3 === 2
          const start = (offset + at) % ((1 << 20) - length + 1)
          parts.push(zeros ? null : blobs[at % 3]!, start, length)
          want.push(zeros ? Buffer.alloc(length) : bytes.subarray(((at % 3) << 20) + start, ((at % 3) << 20) + start + length))
        }
        self.session.replyBlobs(request, parts)
      },
    }))
    // Read ahead of one request at a time, so that `want` is in file order.
    const read = await output('dd', [`if=${dir}/f`, 'bs=1M', 'iflag=direct', 'status=none'])
    t.equal(read.length, 1 << 20)
    t.ok(read.equals(Buffer.concat(want)), `${pieces} pieces`)
  }
})

t.test('contents come back, and zeros in holes', async t => {
  const content = randomBytes('content', 5_000_003)
  const { tiny, dir } = mounted(t, [{ name: 'f', hole: 3_000_001, content }])
  const whole = await output('cat', [`${dir}/f`])
  t.ok(whole.equals(Buffer.concat([Buffer.alloc(3_000_001), content])))
  t.equal(tiny.session.stats()['bytesRead'], 8_000_004)
  t.ok(tiny.session.stats()['read']! < 8_000_004 / 4096 / 8, 'large requests')
})

t.test('OPEN and OPENDIR are asked for once in the life of a mount', async t => {
  const { tiny, dir } = mounted(t, Array.from({ length: 50 }, (_, i) => ({ name: `d${i}`, children: [{ name: 'f', content: Buffer.from('x') }] })))
  await shell(`cat ${dir}/*/f; ls -lR ${dir}; cat ${dir}/*/f; find ${dir}`)
  const { open = 0, opendir = 0, flush = 0, release = 0, releasedir = 0, access = 0 } = tiny.session.stats()
  for (const [name, count] of Object.entries({ open, opendir, flush, access })) t.ok(count <= 1, `${name}: ${count}`)
  t.equal(release + releasedir, 0)
})

t.test('extended attributes: by JavaScript, or natively where it is known that there are none', async t => {
  const asked: string[] = []
  const value = Buffer.from([0, 1, 0xff])
  const { tiny, dir } = mounted(t, [{ name: 'with', xattrs: { 'user.a': value, 'user.b': Buffer.alloc(0) } }, { name: 'without' }], self => {
    const { getxattr, listxattr } = xattrAnswers(self)
    return {
      getxattr: (request, node, name, size) => {
        asked.push(`get ${String(self.entry(node).name)} ${name}`)
        getxattr(request, node, name, size)
      },
      listxattr: (request, node, size) => {
        asked.push(`list ${String(self.entry(node).name)}`)
        listxattr(request, node, size)
      },
    }
  })
  tiny.session.setAbsentXattrs(['user.absent'])
  const read = async (name: string, path: string) => (await run('getfattr', ['-h', '-n', name, '-e', 'hex', '--only-values', '--absolute-names', path]))
  t.strictSame((await read('user.a', `${dir}/with`)).stdout, value)
  t.strictSame((await read('user.b', `${dir}/with`)).stdout, Buffer.alloc(0))
  t.match((await read('user.none', `${dir}/with`)).stderr, /No such attribute/)
  t.match((await shell(`getfattr -h --absolute-names ${dir}/with`)).toString(), /user\.a\nuser\.b\n/)
  t.ok(asked.includes('get with user.none') && asked.includes('list with'))
  asked.length = 0
  for (const { path, name, code } of [
    { path: 'without', name: 'user.a', code: ENODATA }, { path: 'without', name: 'user.absent', code: EOPNOTSUPP }, { path: 'with', name: 'user.absent', code: EOPNOTSUPP },
  ]) {
    // Synchronous calls on the mount would wait for this very thread.
    const script = 'import os,sys\ntry: os.getxattr(sys.argv[1],sys.argv[2])\nexcept OSError as e: print(e.errno)'
    t.equal(Number(await output('python3', ['-c', script, `${dir}/${path}`, name])), code, `${name} of ${path}`)
  }
  t.equal((await shell(`getfattr -h --absolute-names ${dir}/without`)).length, 0)
  t.strictSame(asked, [], 'all of that without JavaScript')
})

function xattrAnswers(self: TinySession): Pick<SessionHandlers, 'getxattr' | 'listxattr'> {
  return {
    getxattr: (request, node, name, size) => {
      const value = self.entry(node).xattrs?.[name.toString()]
      if (!value) self.session.replyError(request, ENODATA)
      else if (size === 0) self.session.replySize(request, value.length)
      else self.session.replyBytes(request, value)
    },
    listxattr: (request, node, size) => {
      const names = Buffer.from(Object.keys(self.entry(node).xattrs ?? {}).join('\0') + '\0')
      if (size === 0) self.session.replySize(request, names.length)
      else self.session.replyBytes(request, names)
    },
  }
}

t.test('POSIX ACLs on: "none" natively, so that permission checks pass', async t => {
  const { tiny, dir } = mounted(t, [{ name: 'f', mode: 0o640, uid: 1, gid: 2, content: Buffer.from('x'), xattrs: { 'user.a': Buffer.from('b') } }], undefined,
    { posixAcl: true, mountOptions: ['ro', 'allow_other', 'default_permissions'] })
  tiny.session.setAbsentXattrs(['system.posix_acl_access', 'system.posix_acl_default'])
  const asNobody = await run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', 'cat', `${dir}/f`])
  t.match(asNobody.stderr, /Permission denied/)
  t.equal((await run('setpriv', ['--reuid=65534', '--regid=2', '--clear-groups', 'cat', `${dir}/f`])).stdout.toString(), 'x')
  await output('getfacl', ['-p', `${dir}/f`])
  t.strictSame(await requestsDuring(tiny.session, () => output('getfacl', ['-p', `${dir}/f`])), {}, 'the kernel keeps the answer')
})

t.test('lseek finds data and holes', async t => {
  const { dir } = mounted(t, [{ name: 'f', hole: 8192, content: Buffer.alloc(100, 1) }])
  const script = 'import os,sys\nf=os.open(sys.argv[1],0)\nprint(os.lseek(f,0,os.SEEK_DATA),os.lseek(f,0,os.SEEK_HOLE),os.lseek(f,8200,os.SEEK_HOLE))\n'
    + 'try: os.lseek(f,9000,os.SEEK_DATA)\nexcept OSError as e: print(e.errno)'
  t.equal((await output('python3', ['-c', script, `${dir}/f`])).toString(), `8192 0 8292\n${os.errno.ENXIO}\n`)
})

t.test('whatever would change something is refused', async t => {
  // Mounted writable, so that the session is asked and not the mount's flag.
  const { dir } = mounted(t, [{ name: 'f', content: Buffer.from('x') }, { name: 'd', children: [] }], undefined, { mountOptions: ['rw'] })
  for (const command of ['chmod 600 f', 'chown 1 f', 'touch f', 'touch new', 'mkdir new', 'rmdir d', 'rm -f f', 'mv f g', 'ln f g', 'ln -s f g', 'mknod p p',
    'truncate -s 0 f', 'setfattr -n user.a -v b f', 'setfattr -x user.a f', 'dd if=/dev/zero of=f conv=notrunc status=none bs=1 count=1 conv=fsync']) {
    const { code, stderr } = await run('bash', ['-c', `cd ${dir} && ${command}`])
    t.ok(code !== 0 && /Read-only file system/.test(stderr), `${command}: ${stderr.trim()}`)
  }
  t.equal((await output('cat', [`${dir}/f`])).toString(), 'x', 'reading goes on')
  t.match((await run('lsattr', [`${dir}/f`])).stderr, /Inappropriate ioctl|not supported/i)
})

t.test('forgotten directories are reported, files are not', { skip: process.getuid?.() === 0 ? false : 'only root may drop caches' }, async t => {
  const { tiny, dir } = mounted(t, [{ name: 'd', children: [{ name: 'f' }, { name: 'e', children: [] }] }])
  await shell(`ls -lR ${dir}`)
  const own = [tiny.node('d'), tiny.node('d', 'e')]
  await eventually('both forgotten', async () => {
    await fs.writeFile('/proc/sys/vm/drop_caches', '2')
    return own.every(node => tiny.forgotten.some(([forgotten, count]) => forgotten === node && count > 0))
  })
  t.notOk(tiny.forgotten.some(([node]) => !own.includes(node) && node !== 1))
})

t.test('a directory that gets the number of a forgotten, shorter one is listed to its own end', { skip: process.getuid?.() === 0 ? false : 'only root may drop caches' }, async t => {
  const offsets: number[] = []
  const { tiny, dir } = mounted(t, [{ name: 'd', children: Array.from({ length: 2000 }, (_, i) => ({ name: `file-${String(i).padStart(5, '0')}` })) }], self => ({
    readdirplus: (request, node, offset, size) => {
      offsets.push(offset)
      self.readdirplus(request, node)
    },
  }))
  const directory = tiny.directory(tiny.node('d')), long = directory.rows
  const list = async () => (await fs.readdir(join(dir, 'd'))).length
  const forget = async () => {
    tiny.forgotten.length = 0
    await eventually('forgotten', async () => {
      await fs.writeFile('/proc/sys/vm/drop_caches', '2')
      return tiny.forgotten.some(([node]) => node === directory.node)
    })
  }
  t.equal(await list(), 2000)
  const second = offsets[1]!
  await forget()
  // One that ends exactly where the long one's second request begins.
  directory.rows = tinyRows(directory.entries.slice(0, second - 2))
  t.equal(await list(), second - 2)
  await forget()
  directory.rows = long
  t.equal(await list(), 2000)
})

t.test('a lookup that waits holds up no other one in its directory', async t => {
  let hold: (request: RequestId) => void
  const held = new Promise<RequestId>(resolve => { hold = resolve })
  const { tiny, dir } = mounted(t, [{ name: 'f', content: Buffer.from('abc') }], self => ({
    lookup: (request, parent, name) => {
      if (name.toString() === 'slow') hold(request)
      else self.lookup(request, parent, name)
    },
  }))
  const slow = fs.stat(join(dir, 'slow'))
  const request = await held
  t.equal(await fs.readFile(join(dir, 'f'), 'utf8'), 'abc')
  t.strictSame(await fs.readdir(dir), ['f'])
  tiny.session.replyNegative(request, 0)
  await t.rejects(slow, { code: 'ENOENT' })
})

t.test('an interrupted caller', async t => {
  await t.test('is reported, and EINTR ends its wait', async t => {
    let waiting: (request: RequestId) => void
    const asked = new Promise<RequestId>(resolve => { waiting = resolve })
    const { tiny, dir } = mounted(t, [{ name: 'f' }], () => ({ lookup: request => waiting(request) }))
    const child = spawn('cat', [`${dir}/f`], { stdio: 'ignore' })
    const ended = new Promise(resolve => { child.on('exit', (_code, signal) => resolve(signal)) })
    const request = await asked
    child.kill('SIGINT')
    t.equal(await ended, 'SIGINT')
    t.strictSame(tiny.interrupted, [request])
    t.equal(tiny.session.stats()['pending'], 0)
  })
  await t.test('of a read leaves at once', async t => {
    const { tiny, dir } = mounted(t, [{ name: 'f', content: Buffer.alloc(10) }], () => ({ read: () => {} }))
    const { signal } = await run('timeout', ['-s', 'KILL', '0.5', 'cat', `${dir}/f`]).then(({ code, signal }) => ({ code, signal }))
    t.equal(signal, 'SIGKILL')
    t.equal(tiny.session.stats()['read'], 1)
  })
})

t.test('a handler that throws is answered EIO and reported once', async t => {
  const thrown = new Error('on purpose')
  const { tiny, dir } = mounted(t, [{ name: 'f', content: Buffer.from('abc') }, { name: 'g', content: Buffer.from('def') }], self => ({
    read: (request, node, offset, size) => {
      if (self.entry(node).name === 'g') self.read(request, node, offset, size)  // answered, and thrown all the same
      throw thrown
    },
    lookup: (request, parent, name) => {
      if (name.toString() === 'bad') throw thrown
      self.lookup(request, parent, name)
    },
  }))
  await t.rejects(fs.stat(join(dir, 'bad')), { code: 'EIO' })
  t.strictSame(tiny.failures, [{ operation: 'lookup', error: thrown }])
  tiny.failures.length = 0
  await t.rejects(fs.open(join(dir, 'f')).then(async file => {
    try {
      await file.read(Buffer.alloc(3), 0, 3, 0)
    } finally {
      await file.close()
    }
  }), { code: 'EIO' })
  t.ok(tiny.failures.length >= 1)
  t.ok(tiny.failures.every(failure => failure.operation === 'read' && failure.error === thrown))
  t.equal(tiny.failures.length, tiny.session.stats()['read'], 'once each')
  tiny.failures.length = 0
  t.equal(await fs.readFile(join(dir, 'g'), 'utf8'), 'def', 'an answer given before it threw stands')
  t.strictSame(tiny.failures, [{ operation: 'read', error: thrown }])
})

t.test('answers that cannot be sent throw, and the request stays open', async t => {
  const rows = (self: TinySession) => self.directories[0]!.rows
  const blob = native.Blob.from(Buffer.alloc(10)), freed = native.Blob.from(Buffer.alloc(10))
  freed.free()
  const outcomes: unknown[] = []
  const { tiny, dir } = mounted(t, [{ name: 'f', content: Buffer.from('abc') }], self => ({
    read: (request, node, offset, size) => {
      const { session } = self
      const tries: [string, () => void][] = [
        ['ERR_WRONG_REPLY', () => session.replyAttr(request, rows(self), 0, null, 1)],
        ['ERR_WRONG_REPLY', () => session.replySize(request, 1)],
        ['ERR_OUT_OF_RANGE', () => session.replyBytes(request, Buffer.alloc(size + 1))],
        ['ERR_OUT_OF_RANGE', () => session.replyBlobs(request, [null, 0, size, blob, 0, 1])],
        ['ERR_OUT_OF_RANGE', () => session.replyBlobs(request, [blob, 5, 6])],
        ['ERR_OUT_OF_RANGE', () => session.replyBlobs(request, [blob, -1, 1])],
        ['ERR_OUT_OF_RANGE', () => session.replyBlobs(request, [blob, 0.5, 1])],
        ['ERR_FREED', () => session.replyBlobs(request, [freed, 0, 1])],
        ['TypeError', () => session.replyBlobs(request, [blob, 0])],
        ['TypeError', () => session.replyBytes(request, 'text' as never)],
        ['ERR_OUT_OF_RANGE', () => session.replyError(request, 0)],
        ['ERR_OUT_OF_RANGE', () => session.replyError(request, os.errno.ENOSYS)],
        ['ERR_OUT_OF_RANGE', () => session.replyError(request, 512)],
        ['ERR_ANSWERED', () => session.replyError(request + 2 ** 20, EIO)],
        ['ERR_ANSWERED', () => session.replyError(request + 1, EIO)],
        ['ERR_ANSWERED', () => session.replyError(-1, EIO)],
        ['ERR_ANSWERED', () => session.replyError(NaN, EIO)],
      ]
      for (const [expected, act] of tries) {
        try {
          act()
          outcomes.push([expected, 'nothing thrown'])
        } catch (error) {
          const { code, name } = error as NodeJS.ErrnoException
          if ((code ?? name) !== expected) outcomes.push([expected, code ?? name, String(act)])
        }
      }
      self.read(request, node, offset, size)
      try {
        session.replyError(request, EIO)
        outcomes.push('answered twice')
      } catch (error) {
        outcomes.push((error as NodeJS.ErrnoException).code)
      }
    },
  }))
  t.equal(await fs.readFile(join(dir, 'f'), 'utf8'), 'abc')
  t.strictSame(outcomes, ['ERR_ANSWERED'])
  t.strictSame(tiny.failures, [])
})

t.test('rows that are not rows are refused', async t => {
  const errors: unknown[] = []
  const { dir } = mounted(t, [{ name: 'f' }], self => ({
    lookup: request => {
      const good = self.directories[0]!.rows
      for (const bad of [Buffer.alloc(0), Buffer.alloc(64), good.subarray(0, -1), Buffer.concat([good, Buffer.alloc(1)])]) {
        try {
          self.session.replyEntry(request, 5, bad, 0, null, 1, 1)
        } catch (error) {
          errors.push((error as NodeJS.ErrnoException).code)
        }
      }
      try {
        self.session.replyEntry(request, 5, good, 1, null, 1, 1)
      } catch (error) {
        errors.push((error as NodeJS.ErrnoException).code)
      }
      self.session.replyError(request, ENOENT)
    },
  }))
  await t.rejects(fs.stat(join(dir, 'f')), { code: 'ENOENT' })
  t.strictSame(errors, ['ERR_ROWS', 'ERR_ROWS', 'ERR_ROWS', 'ERR_ROWS', 'ERR_OUT_OF_RANGE'])
})

t.test('an answer may come later, from a promise, a tick or a timer', async t => {
  for (const later of [(act: () => void) => { Promise.resolve().then(act) }, process.nextTick, setImmediate, (act: () => void) => { setTimeout(act, 1) }]) {
    const { dir } = mounted(t, [{ name: 'f', content: Buffer.from('late') }], self => ({
      lookup: (...args) => { later(() => self.lookup(...args)) }, read: (...args) => { later(() => self.read(...args)) },
    }))
    t.equal(await fs.readFile(join(dir, 'f'), 'utf8'), 'late')
  }
})

t.test('mounted read-only, nosuid and nodev', async t => {
  const { dir } = mounted(t, [])
  const line = (await fs.readFile('/proc/self/mountinfo', 'utf8')).split('\n').find(one => one.split(' ')[4] === dir)!
  t.match(line, / ro,nosuid,nodev.* - fuse\.daybook tiny .*default_permissions/)
  await t.rejects(fs.access(join(dir, 'x'), constants.W_OK))
})
