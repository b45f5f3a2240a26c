import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { randomBytes } from '../fixtures/bytes.js'
import { guardsOf } from '../fixtures/guards.js'
import { isGone, isMounted } from '../fixtures/lifecycle.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { daybook, type MountProcess } from '../fixtures/mount-process.js'
import { killWhileRead } from '../fixtures/kill-while-read.js'
import { eventually, run } from '../fixtures/run.js'
import { mountsBelow } from '../fixtures/scratch.js'
import { seeded } from '../fixtures/seeded.js'

t.setTimeout(300_000)
if (!mountTier(t)) process.exit()

// A thread that pushes into the page cache sleeps uninterruptibly on a page whose read is not answered yet. Killed in that moment, the process did not
// die, nobody answered any more, and every reader hung until somebody unmounted by force.
const place = new MountCase(t, 'dk')
const { seed, random } = seeded()
t.comment(`SEED=${seed}`)
const source = place.path('s'), names = ['a', 'b', 'c', 'd'], BYTES = 40_000_000
mkdirSync(source)
for (const name of names) writeFileSync(`${source}/${name}`, randomBytes(name, BYTES))
const repository = await place.repository()
await repository.backup(['.'], { cwd: source })
const cacheDir = place.path('cache')
const files = (root: string) => names.map(name => `${root}/latest/${name}`)

t.test('killed while files are read: the readers get an error, and it can be mounted again there', async t => {
  const dir = place.path('mnt')
  for (let round = 0; round < 5; round++) {
    const mounted = await place.mount(repository, { dir, cacheDir })
    const [guard] = guardsOf(mounted.child.pid)
    const killAt = Math.floor(random() * 60_000_000)
    const { over, errors } = await killWhileRead({ files: files(dir), killAt, kill: () => mounted.child.kill('SIGKILL'), exited: mounted.exited, dir })
    t.equal(over, true, `killed behind ${killAt} bytes: the process and its readers have ended`)
    t.match(errors, /not connected|connection abort|input\/output error/i, 'an error is what they got')
    await eventually('nor is the guard left', () => isGone(guard!))
    const again = await place.mount(repository, { dir, cacheDir })
    t.equal(mountsBelow(dir).length, 1, 'mounted once, the dead one is gone')
    t.equal(readFileSync(again.latest('a')).length, BYTES)
    await again.unmount()
  }
})

t.test('the same in the background; and unmount takes it away', async t => {
  const dir = place.path('background')
  mkdirSync(dir)
  for (let round = 0; round < 3; round++) {
    const { code, stdout, stderr } = await run(daybook, ['-r', repository.dir, '--json', 'mount', '--daemon', '--log-file', place.path('log'), '--cache-dir', cacheDir, dir], { env: repository.env })
    t.equal(code, 0, stderr)
    const { pid } = JSON.parse(stdout.toString())
    t.equal(guardsOf(pid).length, 1)
    const exited = eventually('the process ends', () => isGone(pid), 30_000)
    exited.catch(() => {})
    const killAt = Math.floor(random() * 60_000_000)
    const { over } = await killWhileRead({ files: files(dir), killAt, kill: () => { process.kill(pid, 'SIGKILL') }, exited, dir })
    t.equal(over, true, `killed behind ${killAt} bytes`)
    const unmounted = await run(daybook, ['--json', 'unmount', dir])
    t.match(JSON.parse(unmounted.stdout.toString()), { was_dead: true })
    t.notOk(isMounted(dir))
  }
})

t.test('one that was taken out of the tree while somebody is inside', async t => {
  const mounted = await place.mount(repository, { cacheDir })
  const { over } = await killWhileRead({
    files: files(mounted.dir), killAt: 10_000_000, exited: mounted.exited, dir: mounted.dir,
    kill: async () => {
      await run('umount', ['-l', mounted.dir])
      mounted.child.kill('SIGKILL')
    },
  })
  t.equal(over, true)
})

t.test('after an orderly end no guard is left, and who reads what daybook says sees its end', async t => {
  const left = async (name: string, leave: (mounted: MountProcess) => unknown) => {
    const mounted = await place.mount(repository, { cacheDir })
    const guards = guardsOf(mounted.child.pid)
    t.equal(guards.length, 1, name)
    const stillOpen = eventually(`${name}: its streams are closed`, () => mounted.exit !== null)
    await leave(mounted)
    await stillOpen // 'close' comes when nobody holds the other end
    await eventually(`${name}: the guard has gone`, () => guards.every(isGone))
  }
  await left('SIGTERM', mounted => mounted.child.kill('SIGTERM'))
  await left('SIGINT', mounted => mounted.child.kill('SIGINT'))
  await left('daybook unmount', mounted => run(daybook, ['unmount', mounted.dir]))
  await left('umount -l', mounted => run('umount', ['-l', mounted.dir]))
  await left('SIGKILL', mounted => mounted.child.kill('SIGKILL'))
})

t.test('Ctrl-C goes to all that the terminal runs: the guard is not among them', async t => {
  const dir = place.path('terminal')
  mkdirSync(dir)
  const child = spawn(daybook, ['-r', repository.dir, 'mount', '--cache-dir', cacheDir, dir], { env: repository.env, stdio: 'ignore', detached: true })
  const exited = new Promise(resolve => child.once('exit', resolve))
  await eventually('guarded', () => guardsOf(child.pid).length === 1)
  const [guard] = guardsOf(child.pid)
  await eventually('mounted', () => isMounted(dir))
  const inside = spawn('sh', ['-c', 'exec 3< latest/a; echo; read word'], { stdio: ['pipe', 'pipe', 'ignore'], cwd: dir })
  await new Promise(resolve => inside.stdout.once('data', resolve))
  process.kill(-child.pid!, 'SIGINT')
  await eventually('out of the tree', () => !isMounted(dir))
  t.notOk(isGone(guard!), 'daybook still serves what is open, and is still guarded')
  inside.kill('SIGKILL')
  await exited
  await eventually('both end', () => isGone(guard!))
})

t.test('the guard is killed: the mount goes on, guarded anew', async t => {
  const mounted = await place.mount(repository, { cacheDir })
  const [first] = guardsOf(mounted.child.pid)
  process.kill(first!, 'SIGKILL')
  await eventually('another one', () => guardsOf(mounted.child.pid).some(pid => pid !== first))
  await eventually('it is said', () => /the guard process has ended and is started again/.test(mounted.output))
  const { over } = await killWhileRead({ files: files(mounted.dir), killAt: 10_000_000, kill: () => mounted.child.kill('SIGKILL'), exited: mounted.exited, dir: mounted.dir })
  t.equal(over, true, 'and it does its work')
})
