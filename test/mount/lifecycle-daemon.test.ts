import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import t from 'tap'
import { isGone, isMounted, Lifecycle } from '../fixtures/lifecycle.js'
import { mountTier } from '../fixtures/mount-case.js'
import { daybook } from '../fixtures/mount-process.js'
import { eventually, run } from '../fixtures/run.js'

t.setTimeout(300_000)
if (!mountTier(t)) process.exit()
const life = await Lifecycle.make(t, 'daemon')

/** Processes with this path among their arguments. */
function processesNaming(path: string): number[] {
  return readdirSync('/proc').filter(pid => /^\d+$/.test(pid)).map(Number).filter(pid => {
    try { return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(path) } catch { return false }
  })
}

t.test('--daemon returns when the mount is ready, and leaves a process on its own', async t => {
  const dir = life.newDir('daemon')
  const log = life.path('daemon.log')
  const { code, stdout, stderr } = await life.cli(['--json', ...life.mountArgs(dir, '--daemon', '--log-file', log)])
  t.equal(code, 0, stderr)
  const ready = JSON.parse(stdout.toString())
  t.teardown(() => { if (!isGone(ready.pid)) process.kill(ready.pid, 'SIGKILL') })
  t.match(ready, { message_type: 'ready', mountpoint: dir, snapshots: 2, newest: '2026-11-19', pid: Number, log_file: log })
  t.ok(isMounted(dir))
  t.equal(readFileSync(`${dir}/latest/small.txt`, 'utf8'), 'small\n')

  const { pid } = ready
  // pid (comm) state ppid pgrp session tty_nr
  const [, , , session, terminal] = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ').map(Number)
  t.equal(session, pid, 'a session of its own')
  t.equal(terminal, 0, 'no terminal')
  t.equal(readlinkSync(`/proc/${pid}/cwd`), '/', 'holds no directory')
  const secret = life.repo.password
  for (const file of ['cmdline', 'environ']) t.notOk(readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(secret), `no password in ${file}`)
  t.notOk(readFileSync(log, 'utf8').includes(secret), 'nor in the log')
  for (const line of readFileSync(log, 'utf8').trim().split('\n')) t.match(JSON.parse(line), { time: /Z$/, level: String, msg: String }, 'each line of the log has time, level and msg')

  t.equal((await life.cli(['unmount', dir])).code, 0)
  await eventually('the process ends', () => isGone(pid))
})

t.test('as text it says where the log is and how to leave', async t => {
  const dir = life.newDir('text')
  const { code, stdout } = await life.cli(life.mountArgs(dir, '--daemon'), { env: { XDG_STATE_HOME: life.path('state') } })
  t.equal(code, 0)
  t.match(stdout.toString(), new RegExp(`^${life.repo.dir} is at ${dir}: 2 snapshots, the newest 2026-11-19\nprocess \\d+, log \\S+\\.log; to leave: daybook unmount ${dir}\n$`))
  t.equal((await life.cli(['unmount', dir])).code, 0)
})

t.test('a signal to the process in the background unmounts', async t => {
  const dir = life.newDir('signal')
  const log = life.path('signal.log')
  const { pid } = JSON.parse((await life.cli(['--json', ...life.mountArgs(dir, '--daemon', '--log-file', log)])).stdout.toString())
  process.kill(pid, 'SIGTERM')
  await eventually('the process ends', () => isGone(pid))
  t.notOk(isMounted(dir))
  const events = readFileSync(log, 'utf8').trim().split('\n').map(line => JSON.parse(line).msg)
  t.equal(events[0], 'ready')
  t.equal(events.at(-1), 'ended')
})

t.test('what goes wrong before it is ready is said by the command, with its exit code', async t => {
  for (const { name, args, env, code, message } of [
    { name: 'wrong password', args: [], env: { RESTIC_PASSWORD: 'not this one' }, code: 12, message: /^daybook: wrong password/ },
    { name: 'unknown snapshot is no error, but said', args: ['--snapshot', 'ffffffff'], env: {}, code: 0, message: /^$/ },
    { name: 'log file in no directory', args: ['--log-file', life.path('no/where.log')], env: {}, code: 2, message: /^daybook: cannot write the log file .*\nhint: make its directory/ },
  ]) {
    const dir = life.newDir(`fails-${name.replaceAll(' ', '-')}`)
    const result = await life.cli(life.mountArgs(dir, '--daemon', ...args), { env: { XDG_STATE_HOME: life.path('state'), ...env } })
    t.equal(result.code, code, name)
    t.match(result.stderr, message, name)
    t.equal(isMounted(dir), code === 0, name)
    if (code === 0) await life.cli(['unmount', dir])
    const left = processesNaming(dir)
    await eventually(`${name}: no process is left`, () => left.every(isGone))
  }
})

t.test('given up while the password is being had: no process is left', async t => {
  const dir = life.newDir('cancelled')
  const asked = life.path('asked')
  const running = life.start(t, ['--password-command', `sh -c "echo $$ > ${asked}; exec sleep 60"`, ...life.mountArgs(dir, '--daemon', '--log-file', life.path('cancelled.log'))],
    { RESTIC_PASSWORD: undefined })
  await eventually('the password command runs', () => { try { return readFileSync(asked, 'utf8').trim() !== '' } catch { return false } })
  t.teardown(() => { try { process.kill(Number(readFileSync(asked, 'utf8')), 'SIGKILL') } catch { /* ended with its parent */ } })
  const processes = processesNaming(dir)
  t.equal(processes.length, 2, 'the command and the process in the background')
  running.child.kill('SIGINT')
  t.equal(await new Promise(resolve => running.child.once('exit', resolve)), 130)
  await eventually('no process is left', () => processes.every(isGone))
  t.notOk(isMounted(dir))
})

t.test('relative paths mean what they meant where the command was given', async t => {
  const dir = life.newDir('relative')
  const { code, stderr } = await run(daybook,
    ['-r', life.repo.dir.slice(life.dir.length + 1), 'mount', '--daemon', '--cache-dir', 'cache', '--log-file', 'relative.log', 'relative'],
    { cwd: life.dir, env: { ...life.repo.env, RESTIC_REPOSITORY: undefined } })
  t.equal(code, 0, stderr)
  t.ok(isMounted(dir))
  t.match(readFileSync(life.path('relative.log'), 'utf8'), /ready/)
  t.equal((await life.cli(['unmount', dir])).code, 0)
})
