import t from 'tap'
import { chownSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { run } from '../fixtures/run.js'
import { makeScratch, mountsBelow, removeScratch } from '../fixtures/scratch.js'
import { serve } from '../fixtures/serve-tiny.js'

const isRoot = process.getuid?.() === 0
const deviceIsOpen = (statSync('/dev/fuse', { throwIfNoEntry: false })?.mode ?? 0) % 8 >= 6

function scratch(test: Pick<typeof t, 'teardown'>): string {
  const dir = makeScratch('daybook-user')
  test.teardown(() => removeScratch(dir))
  return dir
}

if (!isRoot) {
  t.plan(0, 'needs root to become an ordinary user')
} else if (!deviceIsOpen) {
  // Usually udev opens /dev/fuse to all. Where nobody did, a mount namespace of our own gets a device that is.
  t.test('with a /dev/fuse that is open to all', async t => {
    const script = 'mknod "$1/fuse" c 10 229 && chmod 666 "$1/fuse" && mount --bind "$1/fuse" /dev/fuse || exit 99; exec "$2" "$3"'
    const { code, stdout, stderr } = await run('unshare', ['-m', '--propagation', 'private', 'sh', '-c', script, 'sh', scratch(t), process.execPath, fileURLToPath(import.meta.url)])
    if (code === 99) t.comment(`no device can be made: ${stderr}`)
    else t.equal(code, 0, stdout.toString() + stderr)
  })
} else {
  const nobody = { uid: 65534, gid: 65534, env: { PATH: process.env['PATH'], HOME: '/' } }
  const asNobody = (...command: string[]) => run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', ...command])

  t.test('an ordinary user mounts through fusermount3, and closes', async t => {
    const dir = scratch(t)
    chownSync(dir, nobody.uid, nobody.gid)
    const server = serve(dir, nobody)
    const said = await server.said
    t.match(said, { ready: { major: 0, minor: Number } })
    t.equal((await asNobody('cat', `${dir}/plain`)).stdout.toString(), 'plain\n')
    t.not((await run('cat', [`${dir}/plain`])).code, 0, 'others, root too, are kept out without allow_other')
    t.not((await asNobody('cat', `${dir}/close`)).code, 0)
    t.equal(await server.ended, 0)
    t.strictSame(mountsBelow(dir), [])
  })

  t.test('process.exit() unmounts', async t => {
    const dir = scratch(t)
    chownSync(dir, nobody.uid, nobody.gid)
    const server = serve(dir, nobody)
    await server.said
    t.not((await asNobody('cat', `${dir}/exit`)).code, 0)
    t.equal(await server.ended, 0)
    t.strictSame(mountsBelow(dir), [])
  })

  t.test('a directory of somebody else is refused, with the reason', async t => {
    const dir = scratch(t)
    const { error } = await serve(dir, nobody).said
    t.match(error, { code: /^(EPERM|EACCES)$/, errno: Number, message: /fusermount3|ermission/ })
  })

  t.test('without fusermount3 the error names it', async t => {
    const dir = scratch(t)
    chownSync(dir, nobody.uid, nobody.gid)
    const { error } = await serve(dir, { ...nobody, env: { PATH: '/nowhere', HOME: '/' } }).said
    t.match(error, { code: 'ENOENT', message: /fusermount3/ })
  })
}
