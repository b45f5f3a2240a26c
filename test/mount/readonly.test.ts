import {
  accessSync, appendFileSync, chmodSync, chownSync, constants, copyFileSync, fstatSync, ftruncateSync, lchownSync, linkSync, lutimesSync, mkdirSync, openSync, readlinkSync, renameSync, rmdirSync,
  symlinkSync, truncateSync, unlinkSync, utimesSync, writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { native } from '../../src/native.js'
import { compare, digest } from '../fixtures/attribute-digest.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { run } from '../fixtures/run.js'

t.setTimeout(120_000)

// A backup cannot be changed through its mount, by nobody (this runs as root) and in no way: every call that would is EROFS.
if (mountTier(t)) {
  const place = new MountCase(t, 'dr')
  const source = place.path('s')
  mkdirSync(join(source, 'dir/empty'), { recursive: true })
  writeFileSync(join(source, 'file'), 'content')
  writeFileSync(join(source, 'dir/other'), 'content')
  symlinkSync('file', join(source, 'link'))
  native.setXattr(Buffer.from(join(source, 'file')), Buffer.from('user.note'), Buffer.from('value'))
  const repository = await place.repository()
  await repository.backup([source])
  const mounted = await place.mount(repository)
  const before = digest(mounted.dir)

  const day = mounted.latest(), inside = mounted.latest(source)
  for (const [where, dir] of [['in the list of days', mounted.days], ['at the top of a day', day], ['inside of a day', inside]] as const) {
    t.test(`creating ${where} is EROFS`, async t => {
      const fresh = join(dir, 'fresh'), bytes = Buffer.from(fresh)
      refused(t, {
        'writeFile': () => writeFileSync(fresh, 'x'),
        'open for reading, with O_CREAT': () => openSync(fresh, constants.O_RDONLY | constants.O_CREAT),
        'O_TMPFILE': () => openSync(dir, 0o20200000 | constants.O_RDWR),
        'mkdir': () => mkdirSync(fresh),
        'symlink': () => symlinkSync('x', fresh),
        'mknod of a file': () => native.mknod(bytes, 0o100644, 0, 0),
        'mknod of a FIFO': () => native.mknod(bytes, 0o010644, 0, 0),
        'mknod of a device': () => native.mknod(bytes, 0o020644, 1, 3),
        'hard link': () => linkSync(join(inside, 'file'), fresh),
        'rename into it': () => renameSync(join(inside, 'file'), fresh),
        'copyFile': () => copyFileSync('/etc/passwd', fresh),
      }, { 'O_TMPFILE': ['EROFS', 'EOPNOTSUPP'] })
    })
  }

  const entries: [string, string, 'file' | 'directory' | 'symlink'][] = [
    ['a file', join(inside, 'file'), 'file'], ['a directory', join(inside, 'dir'), 'directory'], ['an empty directory', join(inside, 'dir/empty'), 'directory'],
    ['a symlink', join(inside, 'link'), 'symlink'], ['a day', join(mounted.days, readlinkSync(mounted.latest())), 'directory'], ['latest', mounted.latest(), 'symlink'],
  ]
  for (const [what, path, type] of entries) {
    t.test(`changing ${what} is EROFS`, async t => {
      const bytes = Buffer.from(path)
      refused(t, {
        'lchown': () => lchownSync(path, 1, 1),
        'lutimes': () => lutimesSync(path, 1, 1),
        'rename': () => renameSync(path, `${path}-moved`),
        'trusted xattr': () => native.setXattr(bytes, Buffer.from('trusted.x'), Buffer.from('y')),
        'security xattr': () => native.setXattr(bytes, Buffer.from('security.x'), Buffer.from('y')),
        ...type === 'directory' ? { 'rmdir': () => rmdirSync(path) } : { 'unlink': () => unlinkSync(path) },
        ...type === 'symlink' ? {} : {
          'chmod': () => chmodSync(path, 0o777),
          'chown': () => chownSync(path, 1, 1),
          'utimes': () => utimesSync(path, 1, 1),
          'user xattr': () => native.setXattr(bytes, Buffer.from('user.x'), Buffer.from('y')),
          'access for writing': () => accessSync(path, constants.W_OK),
        },
        ...type === 'file' ? {
          'open for writing': () => openSync(path, 'r+'),
          'open for appending': () => openSync(path, 'a'),
          'open with O_TRUNC': () => openSync(path, constants.O_RDONLY | constants.O_TRUNC),
          'truncate': () => truncateSync(path, 0),
          'append': () => appendFileSync(path, 'x'),
        } : {},
      })
    })
  }

  t.test('removing a day, and everything, with rm is refused', async t => {
    const result = await run('rm', ['-rf', '--', join(inside, 'dir'), mounted.latest()])
    t.not(result.code, 0)
    t.match(result.stderr, /Read-only file system/)
  })

  t.test('an extended attribute cannot be removed', async t => {
    const result = await run('setfattr', ['-x', 'user.note', join(inside, 'file')])
    t.match(result.stderr, /Read-only file system/)
  })

  t.test('an open file cannot be changed through its descriptor', async t => {
    const fd = openSync(join(inside, 'file'), 'r')
    t.throws(() => ftruncateSync(fd, 0), { code: 'EINVAL' }, 'not open for writing, as everywhere')
    t.equal(fstatSync(fd).size, 7)
  })

  t.test('nothing has changed', async t => {
    t.same(compare(before, digest(mounted.dir)), [])
  })
}

type Calls = Record<string, () => unknown>

function refused(t: Tap, calls: Calls, otherCodes: Record<string, string[]> = {}): void {
  for (const [name, call] of Object.entries(calls)) {
    let code: string | undefined = 'nothing was thrown'
    try {
      call()
    } catch (error) {
      code = (error as NodeJS.ErrnoException).code
    }
    const allowed = otherCodes[name] ?? ['EROFS']
    t.ok(allowed.includes(code!), `${name}: ${code}`)
  }
}
interface Tap { ok(value: unknown, message: string): boolean }
