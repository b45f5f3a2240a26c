import { existsSync, openSync, readFileSync, readSync, symlinkSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { BIG_BYTES, closeDead, isGone, isMounted, Lifecycle, openDirect, SERVER_GONE } from '../fixtures/lifecycle.js'
import { mountTier } from '../fixtures/mount-case.js'
import { eventually } from '../fixtures/run.js'

t.setTimeout(300_000)
if (!mountTier(t)) process.exit()
const life = await Lifecycle.make(t, 'unmount')

t.test('killed with SIGKILL: the next mount on the same directory works', async t => {
  const dir = life.newDir('killed')
  for (const round of ['first', 'second', 'third']) {
    const running = life.start(t, life.mountArgs(dir))
    await running.said(/to leave/)
    t.equal(readFileSync(`${dir}/latest/small.txt`, 'utf8'), 'small\n', round)
    t.equal(/cleared away a mount whose process had died/.test(running.err), round !== 'first', `${round}: it says what it found`)
    running.child.kill(round === 'third' ? 'SIGTERM' : 'SIGKILL')
    await running.exited
    t.equal(isMounted(dir), round !== 'third', `${round}: a dead mount is still there`)
  }
})

t.test('unmount takes away a dead mount, also while a file in it is open', async t => {
  const mounted = await life.mount(life.repo)
  const fd = openSync(mounted.latest('small.txt'), 'r')
  mounted.child.kill('SIGKILL')
  await mounted.exited
  const { code, stdout } = await life.cli(['--json', 'unmount', mounted.dir])
  t.equal(code, 0)
  t.match(JSON.parse(stdout.toString()), { message_type: 'unmounted', mountpoint: mounted.dir, was_dead: true })
  t.notOk(isMounted(mounted.dir))
  closeDead(fd)
})

t.test('busy: refused with a hint, unless --lazy or --force', async t => {
  for (const { flag, afterwards } of [{ flag: '--lazy', afterwards: 'served' }, { flag: '--force', afterwards: 'error' }] as const) {
    const mounted = await life.mount(life.repo)
    const fd = openDirect(mounted.latest('big.bin'))
    const refused = await life.cli(['unmount', mounted.dir])
    t.equal(refused.code, 1)
    t.match(refused.stderr, /^daybook: .* is in use\nhint: .*--lazy/)
    t.ok(isMounted(mounted.dir), 'and it stays')
    t.equal((await life.cli(['unmount', flag, mounted.dir])).code, 0, flag)
    t.notOk(isMounted(mounted.dir), flag)
    const end = Buffer.alloc(4096)
    const read = () => readSync(fd, end, 0, 4096, BIG_BYTES - 4096)
    if (afterwards === 'served') {
      t.equal(read(), 4096)
      t.ok(end.equals(readFileSync(life.path('source/big.bin')).subarray(-4096)), 'what is open is still served')
    } else t.throws(read, { code: SERVER_GONE })
    closeDead(fd)
    await mounted.exited
    t.ok(isGone(mounted.child.pid!), 'the process has gone')
  }
})

t.test('a process that hangs: nobody hangs with it, and --force ends it', async t => {
  const mounted = await life.mount(life.repo)
  mounted.child.kill('SIGSTOP')
  const again = await life.cli(life.mountArgs(mounted.dir))
  t.equal(again.code, 2)
  t.match(again.stderr, /does not answer\nhint: .*daybook unmount --force/)
  const inside = await life.cli(life.mountArgs(`${mounted.dir}/latest`))
  t.equal(inside.code, 2, 'nor on a way through it')
  t.equal((await life.cli(['unmount', '--force', mounted.dir])).code, 0)
  t.notOk(isMounted(mounted.dir))
  mounted.child.kill('SIGCONT')
  await mounted.exited
})

t.test('what can be refused without the password is refused before anybody is asked', async t => {
  const asked = life.path('asked')
  const mounted = await life.mount(life.repo)
  const full = life.newDir('full')
  writeFileSync(`${full}/x`, '')
  symlinkSync(life.repo.dir, life.path('link-to-repo'))
  const free = life.newDir('free')
  for (const { name, args, code, message } of [
    { name: 'missing', args: life.mountArgs(life.path('missing')), code: 2, message: /does not exist\nhint: make it first: mkdir -p / },
    { name: 'not a directory', args: life.mountArgs(life.path('source/small.txt')), code: 2, message: /is not a directory/ },
    { name: 'not empty', args: life.mountArgs(full), code: 2, message: /is not empty/ },
    { name: 'mounted already', args: life.mountArgs(mounted.dir), code: 2, message: /is a daybook mount already\nhint: .*daybook unmount/ },
    { name: 'inside the repository', args: life.mountArgs(`${life.repo.dir}/locks`), code: 2, message: /lies inside the repository/ },
    { name: 'the same through a link', args: life.mountArgs(life.path('link-to-repo/locks')), code: 2, message: /lies inside the repository/ },
    { name: 'the cache inside the mountpoint', args: ['mount', '--cache-dir', `${free}/cache`, free], code: 2, message: /the cache directory .* lies inside the mountpoint/ },
    { name: 'no repository', args: ['-r', life.path('source'), ...life.mountArgs(free)], code: 10, message: /there is no repository/ },
    { name: 'unknown owner', args: life.mountArgs(free, '--owner', 'nobody-of-this-name'), code: 2, message: /there is no user/ },
    { name: 'wrong time', args: life.mountArgs(free, '--poll', 'often'), code: 2, message: /--poll often: not a time/ },
    { name: 'subtree that leads out', args: life.mountArgs(free, '--subtree', '/a/../..'), code: 2, message: /leads out/ },
  ]) {
    const result = await life.cli(['--password-command', `touch ${asked}`, ...args], { env: { RESTIC_PASSWORD: undefined } })
    t.equal(result.code, code, name)
    t.match(result.stderr, message, name)
    t.notMatch(result.stderr, /^ {4}at /m, name)
  }
  t.notOk(existsSync(asked), 'nobody was asked')
  await mounted.unmount()
})

t.test('names of mountpoints may hold anything', async t => {
  for (const name of ['with space', 'new\nline', 'back\\slash', 'comma,option=1', '-dash', 'ünïcode', `quo'te`]) {
    const mounted = await life.mount(life.repo, { dir: life.path(name) })
    t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n', JSON.stringify(name))
    t.equal((await life.cli(['unmount', mounted.dir])).code, 0, JSON.stringify(name))
    await eventually('the process ends', () => mounted.exit !== null)
  }
})
