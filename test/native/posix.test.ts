import { closeSync, ftruncateSync, lstatSync, openSync, symlinkSync, writeFileSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { native } from '../../src/native.js'
import { tier } from '../fixtures/tiers.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'

const dir = makeScratch('daybook-posix')
t.teardown(() => removeScratch(dir))
const path = (name: string) => Buffer.from(join(dir, name))
const { ENOENT } = constants.errno

t.test('extended attributes, of a link itself too', async t => {
  writeFileSync(join(dir, 'file'), '')
  const big = Buffer.alloc(3000, 1)
  try {
    native.setXattr(path('file'), Buffer.from('user.name'), Buffer.from([0, 1, 255]))
    native.setXattr(path('file'), Buffer.from('user.big'), big)
  } catch (error) {
    tier(t, 'xattr', `${error}`)
    return
  }
  t.same(native.listXattrs(path('file')).map(String).filter(name => name.startsWith('user.')).sort(), ['user.big', 'user.name'])
  t.same(native.getXattr(path('file'), Buffer.from('user.name')), Buffer.from([0, 1, 255]))
  t.same(native.getXattr(path('file'), Buffer.from('user.big')), big)
  symlinkSync('file', join(dir, 'link'))
  t.notOk(native.listXattrs(path('link')).map(String).includes('user.name'))
  t.throws(() => native.getXattr(path('file'), Buffer.from('user.none')), { code: 'ENODATA', syscall: 'lgetxattr' })
})

t.test('errors are as those of node:fs', async t => {
  const missing = path('missing')
  for (const [syscall, call] of [
    ['llistxattr', () => native.listXattrs(missing)], ['lgetxattr', () => native.getXattr(missing, Buffer.from('user.a'))], ['statx', () => native.statx(missing)],
    ['utimensat', () => native.utimensat(missing, [0n, 0], [0n, 0])], ['umount2', () => native.umount2(missing, 2)], ['mknod', () => native.mknod(path('missing/x'), 0o100644, 0, 0)],
  ] as const) t.throws(call, { code: 'ENOENT', errno: -ENOENT, syscall }, syscall)
  t.throws(() => native.seek(-1, 0, 3), { code: 'EBADF', syscall: 'lseek' })
  t.throws(() => native.statx(Buffer.from('/\0etc')), TypeError)
})

t.test('times before 1970 and to the nanosecond', async t => {
  writeFileSync(join(dir, 'old'), '')
  native.utimensat(path('old'), [-2n, 123_456_789], [1_000_000_000n, 1])
  const { atime, mtime } = native.statx(path('old'))
  t.same([atime, mtime], [[-2n, 123_456_789], [1_000_000_000n, 1]])
})

t.test('statx knows what lstat knows', async t => {
  writeFileSync(join(dir, 'known'), 'x'.repeat(5000))
  const stat = lstatSync(join(dir, 'known'), { bigint: true }), got = native.statx(path('known'))
  t.same([BigInt(got.mode), BigInt(got.nlink), BigInt(got.uid), BigInt(got.gid), got.ino, got.size, got.blocks], [stat.mode, stat.nlink, stat.uid, stat.gid, stat.ino, stat.size, stat.blocks])
  t.equal(got.mtime[0] * 1_000_000_000n + BigInt(got.mtime[1]), stat.mtimeNs)
})

t.test('names of any bytes', async t => {
  const name = Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0x0a, 0x80])])
  native.mknod(name, 0o010600, 0, 0)
  t.equal(native.statx(name).mode & 0o170000, 0o010000)
})

t.test('devices', async t => {
  try {
    native.mknod(path('device'), 0o020600, 300, 70_000)
  } catch (error) {
    tier(t, 'root', `${error}`)
    return
  }
  const { rdevMajor, rdevMinor } = native.statx(path('device'))
  t.same([rdevMajor, rdevMinor], [300, 70_000])
})

t.test('data and holes', async t => {
  const fd = openSync(join(dir, 'sparse'), 'w+')
  t.teardown(() => closeSync(fd))
  ftruncateSync(fd, 6 * 2 ** 30)
  writeSync(fd, 'data', 5 * 2 ** 30)
  t.same([native.seek(fd, 0, 3), native.seek(fd, 0, 4)], [5 * 2 ** 30, 0])
  t.throws(() => native.seek(fd, 7 * 2 ** 30, 3), { code: 'ENXIO' })
})
