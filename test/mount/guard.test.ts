import { spawn, type ChildProcess } from 'node:child_process'
import { openSync, readFileSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import type { Writable } from 'node:stream'
import t, { type Test } from 'tap'
import { Guard } from '../../src/mount/guard.js'
import { mountAt, readMountTable } from '../../src/mount/mount-table.js'
import { silentLogger } from '../../src/util/log.js'
import { GUARD, guardsOf } from '../fixtures/guards.js'
import { closeDead, isGone, Lifecycle, SERVER_GONE } from '../fixtures/lifecycle.js'
import { mountTier } from '../fixtures/mount-case.js'
import type { MountProcess } from '../fixtures/mount-process.js'
import { eventually, run } from '../fixtures/run.js'

t.setTimeout(300_000)
if (!mountTier(t)) process.exit()
const life = await Lifecycle.make(t, 'guard')
const connectionOf = (dir: string) => mountAt(readMountTable(), dir)!.device.minor
/** Its process lives, and takes away the mount that was aborted. */
const GONE = new RegExp(`${SERVER_GONE.source}|^ENOENT$`)
/** Aborted, its process ends or is killed; a test that waits in vain must say so. */
const ended = (mounted: MountProcess) => eventually(`${mounted.dir} ends`, () => mounted.exit)
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

/** The program alone, whose parent is a shell that can be killed; its input outlives that, as it does when a thread is stuck. */
async function startGuard(t: Test, orders: string): Promise<{ parent: ChildProcess, pid: number, input: Writable }> {
  const parent = spawn('sh', ['-c', '"$0" $$ <&3 3<&- & echo $!; exec sleep 600 3<&-', GUARD], { stdio: ['ignore', 'pipe', 'inherit', 'pipe'] })
  const input = parent.stdio[3] as Writable
  input.on('error', () => {})
  const pid = Number(await new Promise(resolve => parent.stdout!.once('data', resolve)))
  t.teardown(() => {
    for (const one of [parent.pid!, pid]) try { process.kill(one, 'SIGKILL') } catch { /* has ended */ }
    input.destroy()
  })
  await eventually('the guard runs', () => guardsOf(parent.pid).includes(pid))
  await new Promise(resolve => input.write(orders, resolve))
  await pause(100)
  return { parent, pid, input }
}

t.test('the parent is killed: what was added is aborted, what was removed is not', async t => {
  for (const { name, orders, aborted } of [
    { name: 'added', orders: (n: number) => `add ${n}\n`, aborted: true },
    { name: 'removed', orders: (n: number) => `add ${n}\nremove ${n}\n`, aborted: false },
    { name: 'added twice and removed once', orders: (n: number) => `add ${n}\nadd ${n}\nremove ${n}\n`, aborted: true },
    { name: 'among nonsense', orders: (n: number) => `\nadd\nadd x\n${'y'.repeat(10_000)}\nadd 99999999\nremove 7\nadd ${n}\nremove`, aborted: true },
  ]) {
    const mounted = await life.mount(life.repo)
    const { parent, pid } = await startGuard(t, orders(connectionOf(mounted.dir)))
    t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n', `${name}: served while the parent lives`)
    parent.kill('SIGKILL')
    await eventually('the guard ends', () => isGone(pid))
    if (aborted) {
      t.throws(() => readFileSync(mounted.latest('small.txt')), { code: GONE }, name)
      await ended(mounted)
    } else t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n', name)
    await mounted.unmount()
  }
})

t.test('many connections, told in pieces', async t => {
  const mounts = [await life.mount(life.repo), await life.mount(life.repo), await life.mount(life.repo)]
  const { parent, pid, input } = await startGuard(t, '')
  for (const byte of mounts.map(({ dir }) => `add ${connectionOf(dir)}\n`).join('')) {
    input.write(byte)
    await pause(1)
  }
  parent.kill('SIGKILL')
  await eventually('the guard ends', () => isGone(pid))
  for (const mounted of mounts) {
    t.throws(() => statSync(`${mounted.dir}/latest/small.txt`), { code: GONE })
    await ended(mounted)
  }
})

t.test('a connection number that the kernel gave to another mount meanwhile: that one is left alone', async t => {
  for (let attempt = 0; attempt < 5; attempt++) {
    const first = await life.mount(life.repo)
    const connection = connectionOf(first.dir)
    const { parent, pid } = await startGuard(t, `add ${connection}\n`)
    await first.unmount()
    const second = await life.mount(life.repo)
    const same = connectionOf(second.dir) === connection
    parent.kill('SIGKILL')
    await eventually('the guard ends', () => isGone(pid))
    if (same) t.equal(readFileSync(second.latest('small.txt'), 'utf8'), 'small\n')
    await second.unmount()
    if (same) return
  }
  t.comment('other tests took the number each time')
})

t.test('a parent that was dead before the guard looked', async t => {
  const mounted = await life.mount(life.repo)
  // What a dead parent said is there from the beginning; through a pipe of ours it might come after the guard has ended.
  const orders = life.path('orders')
  writeFileSync(orders, `add ${connectionOf(mounted.dir)}\n`)
  // A process that is not its parent: so the parent is not that process any more.
  t.equal((await run('sh', ['-c', '"$0" "$1" < "$2"', GUARD, String(mounted.child.pid), orders])).code, 0)
  t.throws(() => readFileSync(mounted.latest('small.txt')), { code: GONE })
  await ended(mounted)
})

t.test('it ends with its input, but not while it holds a connection', async t => {
  const mounted = await life.mount(life.repo)
  const idle = await startGuard(t, '')
  idle.input.end()
  await eventually('ends', () => isGone(idle.pid))
  const holding = await startGuard(t, `add ${connectionOf(mounted.dir)}\n`)
  holding.input.end()
  await pause(300)
  t.notOk(isGone(holding.pid), 'goes on')
  t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n')
  holding.parent.kill('SIGKILL')
  await ended(mounted)
  t.throws(() => readFileSync(mounted.latest('small.txt')), { code: GONE })
})

t.test('no signal ends it, or makes it believe that its parent is dead', async t => {
  const mounted = await life.mount(life.repo)
  const { pid } = await startGuard(t, `add ${connectionOf(mounted.dir)}\n`)
  for (const signal of [...['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGPIPE', 'SIGALRM'] as const, 34, 64]) process.kill(pid, signal)
  process.kill(pid, 'SIGSTOP')
  process.kill(pid, 'SIGCONT')
  await pause(300)
  t.notOk(isGone(pid))
  t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n')
  await mounted.unmount()
})

t.test('it is small and holds nothing', async t => {
  const file = openSync(life.path('source/small.txt'), 'r')
  const parent = spawn('sh', ['-c', '"$0" $$ <&3 & echo $!; exec sleep 600', GUARD], { stdio: ['ignore', 'pipe', 'inherit', 'pipe', file, file], cwd: life.dir })
  t.teardown(() => { parent.kill('SIGKILL'); closeDead(file) })
  const pid = Number(await new Promise(resolve => parent.stdout!.once('data', resolve)))
  await eventually('waits', () => readdirSync(`/proc/${pid}/fd`).some(fd => readlinkSync(`/proc/${pid}/fd/${fd}`) === 'anon_inode:[signalfd]'))
  await pause(100)
  t.strictSame(readdirSync(`/proc/${pid}/fd`), ['0', '1', '2', '3'], 'what it inherited is closed; 3 is its own')
  t.equal(readlinkSync(`/proc/${pid}/fd/3`), 'anon_inode:[signalfd]')
  t.equal(readlinkSync(`/proc/${pid}/cwd`), '/')
  const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1])
  t.ok(kilobytes < 2048, `${kilobytes} kB`)
})

t.test('one guard for all mounts of a process, while there are any', async t => {
  const guard = new Guard()
  const releases = [guard.hold(99_999_991, silentLogger), guard.hold(99_999_992, silentLogger)]
  await eventually('one is there', () => guardsOf(process.pid).length > 0)
  const [pid, ...others] = guardsOf(process.pid)
  t.strictSame(others, [])
  // the runner of the tests gives every child process some of its own
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(entry => entry !== '' && !/^_TAPJS_|^NODE_OPTIONS=.*@tapjs/.test(entry))
  t.strictSame(environment, [], 'has no environment: passwords may be in it')
  const [, , , , session] = readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/\) /, ' ').split(' ').map(Number).slice(1)
  t.equal(session, pid, 'a session of its own')
  releases[0]!()
  releases[0]!()
  await pause(200)
  t.strictSame(guardsOf(process.pid), [pid], 'one is still guarded')
  releases[1]!()
  await eventually('none is left', () => guardsOf(process.pid).length === 0)
  const release = guard.hold(99_999_991, silentLogger)
  await eventually('and a new one, when it is needed again', () => guardsOf(process.pid).length === 1)
  release()
  await eventually('none is left', () => guardsOf(process.pid).length === 0)
})

t.test('a guard that cannot be started, or does not stay: said, and that is all', async t => {
  const noProgram = life.path('no-program')
  writeFileSync(noProgram, '#!/nowhere/sh\n')
  for (const { program, warnings } of [{ program: '/nowhere/daybook-guard', warnings: 1 }, { program: noProgram, warnings: 1 }, { program: '/bin/false', warnings: 5 }]) {
    const said: string[] = []
    const guard = new Guard(program)
    const release = guard.hold(99_999_991, { ...silentLogger, warn: message => { said.push(message) } })
    await eventually(`${program}: it is said`, () => said.length === warnings)
    await pause(100)
    t.equal(said.length, warnings, said.join('; '))
    guard.hold(99_999_992, silentLogger)()
    release()
  }
})
