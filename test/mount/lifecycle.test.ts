import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, readSync, readdirSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { mountAt, readMountTable } from '../../src/mount/mount-table.js'
import { BIG_BYTES, closeDead, isGone, isMounted, Lifecycle, openDirect, SERVER_GONE } from '../fixtures/lifecycle.js'
import { mountTier } from '../fixtures/mount-case.js'
import { daybook } from '../fixtures/mount-process.js'
import { eventually } from '../fixtures/run.js'

t.setTimeout(300_000)
if (!mountTier(t)) process.exit()
const life = await Lifecycle.make(t, 'lifecycle')

t.test('in the foreground it says when it is ready, what is where, and how to leave', async t => {
  const dir = life.newDir('ready')
  const running = life.start(t, life.mountArgs(dir))
  await running.said(/\n.*\n/)
  t.ok(isMounted(dir), 'it is mounted by then')
  t.equal(running.out, `${life.repo.dir} is at ${dir}: 2 snapshots, the newest 2026-11-19\nto leave: Ctrl-C here, or daybook unmount ${dir}\n`)
  t.same(readdirSync(dir), ['2026-11-18', '2026-11-19', 'latest'])
  running.child.kill('SIGINT')
  t.equal(await running.exited, 0)
  t.match(running.out, /^unmounted /m)
  t.equal(running.err, '', 'and nothing on standard error')
})

t.test('--json: one object for each thing that happens', async t => {
  const dir = life.newDir('json')
  const running = life.start(t, life.mountArgs(dir, '--json'))
  await running.said(/\n/)
  t.match(JSON.parse(running.out), { message_type: 'ready', mountpoint: dir, repository: life.repo.dir, snapshots: 2, newest: '2026-11-19', pid: running.child.pid })
  running.child.kill('SIGTERM')
  t.equal(await running.exited, 0)
  const [, ...others] = running.out.trim().split('\n').map(line => JSON.parse(line))
  t.match(others, [{ message_type: 'leaving', signal: 'SIGTERM' }, { message_type: 'ended', errno: 0 }])
})

t.test('SIGINT and SIGTERM unmount a mount that nobody uses', async t => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const mounted = await life.mount(life.repo)
    t.strictSame(await mounted.unmount(signal), { code: 0, signal: null }, signal)
    t.notOk(isMounted(mounted.dir), signal)
  }
})

t.test('told to leave while in use: out of the tree at once, and what is open is served to its end', async t => {
  const mounted = await life.mount(life.repo)
  const fd = openSync(mounted.latest('big.bin'), 'r')
  const expected = readFileSync(life.path('source/big.bin'))
  const got = Buffer.alloc(BIG_BYTES)
  readSync(fd, got, 0, 4096, 0)
  mounted.child.kill('SIGTERM')
  await eventually('it says that it is in use', () => /is in use: it is out of the tree/.test(mounted.output))
  t.notOk(isMounted(mounted.dir))
  t.equal(mounted.exit, null, 'the process goes on')
  for (let at = 0; at < BIG_BYTES;) at += readSync(fd, got, at, 1 << 20, at)
  t.ok(got.equals(expected), 'every byte is right')
  closeSync(fd)
  t.strictSame(await mounted.exited, { code: 0, signal: null }, 'and it ends with the last file closed')
})

t.test('a second signal ends it at once', async t => {
  const mounted = await life.mount(life.repo)
  const fd = openDirect(mounted.latest('big.bin'))
  mounted.child.kill('SIGINT')
  await eventually('it says that it is in use', () => /is in use/.test(mounted.output))
  mounted.child.kill('SIGINT')
  t.strictSame(await mounted.exited, { code: 130, signal: null })
  t.throws(() => readSync(fd, Buffer.alloc(4096), 0, 4096, BIG_BYTES - 4096), { code: SERVER_GONE }, 'what was open gets an error, not a wait')
  closeDead(fd)
})

t.test('SIGHUP looks for new snapshots at once', async t => {
  const mounted = await life.mount(life.repo, { args: ['--poll', '0'] })
  t.same(readdirSync(mounted.dir), ['2026-11-18', '2026-11-19', 'latest'])
  await life.backup('2026-11-20 10:00:00')
  t.same(readdirSync(mounted.dir), ['2026-11-18', '2026-11-19', 'latest'], 'not before')
  mounted.child.kill('SIGHUP')
  await eventually('the new day is there', () => readdirSync(mounted.dir).includes('2026-11-20'))
  t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n')
  await mounted.unmount()
})

t.test('SIGUSR1 writes counters into the log and does not wake the debugger', async t => {
  const running = life.start(t, life.mountArgs(life.newDir('counters'), '--json'))
  await running.said(/"ready"/)
  running.child.kill('SIGUSR1')
  await running.said(/"msg":"counters"/)
  const line = running.err.split('\n').find(line => line.includes('"msg":"counters"'))!
  t.match(JSON.parse(line), { level: 'info', time: /^\d{4}-.*Z$/, snapshots: Number, rssBytes: Number })
  t.notMatch(running.err, /Debugger listening/)
  running.child.kill('SIGTERM')
  t.equal(await running.exited, 0)
})

t.test('told to leave before it is ready: nothing is left behind', async t => {
  const dir = life.newDir('early')
  const asked = life.path('asked')
  const running = life.start(t, ['--password-command', `sh -c "echo $$ > ${asked}; exec sleep 60"`, ...life.mountArgs(dir)], { RESTIC_PASSWORD: undefined })
  await eventually('the password command runs', () => { try { return readFileSync(asked, 'utf8').trim() !== '' } catch { return false } })
  running.child.kill('SIGTERM')
  t.equal(await Promise.race([running.exited, new Promise(resolve => running.child.once('exit', resolve))]), 130)
  t.notOk(isMounted(dir))
  t.teardown(() => { try { process.kill(Number(readFileSync(asked, 'utf8')), 'SIGKILL') } catch { /* ended with its parent */ } })
})

t.test('whoever listened has gone: it goes on, and still unmounts when told to', async t => {
  const dir = life.newDir('unheard')
  const running = life.start(t, life.mountArgs(dir))
  await running.said(/to leave/)
  running.child.stdout!.destroy()
  running.child.stderr!.destroy()
  const fd = openSync(`${dir}/latest/small.txt`, 'r')
  running.child.kill('SIGHUP')
  running.child.kill('SIGTERM')
  await eventually('out of the tree', () => !isMounted(dir))
  t.equal(running.child.exitCode, null, 'it serves what is open')
  t.equal(readFileSync(fd, 'utf8'), 'small\n')
  closeSync(fd)
  t.equal(await running.exited, 0)
})

t.test('the terminal is closed: it leaves', async t => {
  const dir = life.newDir('hangup')
  // script makes the terminal, and takes it along when it is killed
  const terminal = spawn('script', ['-qec', [daybook, ...life.mountArgs(dir)].join(' '), '/dev/null'], { env: life.repo.env, stdio: ['pipe', 'ignore', 'ignore'] })
  t.teardown(() => { terminal.kill('SIGKILL') })
  await eventually('it is mounted', () => isMounted(dir))
  terminal.kill('SIGKILL')
  await t.resolves(eventually('it is unmounted', () => !isMounted(dir)))
})

t.test('as root, the kernel reads in pieces of 1 MiB', async t => {
  const mounted = await life.mount(life.repo)
  const { major, minor } = mountAt(readMountTable(), mounted.dir)!.device
  t.equal(readFileSync(`/sys/class/bdi/${major}:${minor}/read_ahead_kb`, 'utf8'), '1024\n')
  await mounted.unmount()
})

t.test('two mounts of one repository, with one index', async t => {
  const [one, two] = await Promise.all([life.mount(life.repo, { cacheDir: life.path('shared') }), life.mount(life.repo, { cacheDir: life.path('shared') })])
  for (const mounted of [one, two]) t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n')
  await one.unmount()
  t.equal(readFileSync(`${two.dir}/2026-11-18/small.txt`, 'utf8'), 'small\n', 'one goes, the other stays')
  await two.unmount()
})

t.test('a fault nobody foresaw: logged with its stack, unmounted, exit code 1', async t => {
  const bomb = life.path('bomb.mjs')
  writeFileSync(bomb, `process.on('SIGUSR2', () => { throw new Error('boom') })\n`)
  const mounted = await life.mount(life.repo, { env: { NODE_OPTIONS: `--import=${bomb}` } })
  const fd = openSync(mounted.latest('small.txt'), 'r')
  mounted.child.kill('SIGUSR2')
  t.strictSame(await mounted.exited, { code: 1, signal: null })
  t.match(mounted.output, /error uncaught exception .*boom.*at process/)
  t.notOk(isMounted(mounted.dir), 'although a file was open')
  closeDead(fd)
})

t.test('unmounted by somebody else, it ends', async t => {
  const mounted = await life.mount(life.repo)
  t.equal((await life.cli(['unmount', mounted.dir])).code, 0)
  t.strictSame(await mounted.exited, { code: 0, signal: null })
  t.ok(isGone(mounted.child.pid!))
})
