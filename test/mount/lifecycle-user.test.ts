import { spawn } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs'
import t from 'tap'
import { FUSE_DEVICE, fusermount3, userAllowOther } from '../../src/mount/requirements.js'
import { readMountTable } from '../../src/mount/mount-table.js'
import { isGone, isMounted, Lifecycle } from '../fixtures/lifecycle.js'
import { killWhileRead } from '../fixtures/kill-while-read.js'
import { mountTier } from '../fixtures/mount-case.js'
import { daybook, projectRoot } from '../fixtures/mount-process.js'
import { eventually, run, type Result } from '../fixtures/run.js'
import { tier } from '../fixtures/tiers.js'

/** Somebody without rights whom fusermount3 knows by name. */
const NOBODY = '65534'
const AS_NOBODY = ['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups']

async function whatIsMissing(): Promise<string | true> {
  if (fusermount3()?.setuid !== true) return 'no fusermount3 that is setuid root'
  const seen = await run('setpriv', [...AS_NOBODY, 'test', '-x', daybook]).catch(() => null)
  return seen?.code === 0 || `an ordinary user cannot run ${projectRoot}/bin/daybook`
}

t.setTimeout(300_000)
if (!mountTier(t) || !tier(t, 'user', await whatIsMissing())) process.exit()
// udev's rule opens the device to all; a machine without udev has it as the kernel makes it, for root.
const { mode } = statSync(FUSE_DEVICE)
chmodSync(FUSE_DEVICE, 0o666)
t.teardown(() => chmodSync(FUSE_DEVICE, mode & 0o777))
const life = await Lifecycle.make(t, 'user')
chmodSync(life.dir, 0o755)
for (const name of ['home', 'mnt']) {
  mkdirSync(life.path(name))
  chownSync(life.path(name), Number(NOBODY), Number(NOBODY))
}
await run('chown', ['-R', `${NOBODY}:${NOBODY}`, life.repo.dir])
const dir = life.path('mnt')

/** As an ordinary user. */
const user = (command: string, args: string[]): Promise<Result> => run('setpriv', [...AS_NOBODY, command, ...args],
  { env: { PATH: process.env.PATH, HOME: life.path('home'), RESTIC_REPOSITORY: life.repo.dir, RESTIC_PASSWORD: life.repo.password }, cwd: '/' })
const mountAsUser = (...args: string[]) => user(daybook, ['--json', 'mount', '--daemon', ...args, dir])

t.test('an ordinary user mounts and unmounts through fusermount3', async t => {
  const { code, stdout, stderr } = await mountAsUser()
  t.equal(code, 0, stderr)
  t.ok(isMounted(dir))
  t.equal((await user('cat', [`${dir}/latest/small.txt`])).stdout.toString(), 'small\n')
  t.throws(() => readdirSync(dir), { code: 'EACCES' }, 'nobody else is let in, root neither')
  const log = JSON.parse(stdout.toString()).log_file
  t.equal(log.startsWith(`${life.path('home')}/.local/state/daybook/`), true, log)
  t.match(readFileSync(log, 'utf8'), /ready/)
  const unmounted = await user(daybook, ['unmount', dir])
  t.equal(unmounted.code, 0, unmounted.stderr)
  t.notOk(isMounted(dir))
})

t.test('root may unmount what a user mounted; another user may not', async t => {
  t.equal((await mountAsUser()).code, 0)
  const other = await run('setpriv', ['--reuid', '1', '--regid', '1', '--clear-groups', daybook, 'unmount', dir], { cwd: '/' })
  t.equal(other.code, 1)
  t.match(other.stderr, /no permission to unmount/)
  t.ok(isMounted(dir))
  t.equal((await life.cli(['unmount', dir])).code, 0)
  t.notOk(isMounted(dir))
})

t.test('signals work for ordinary users too, and a killed mount is cleared away', async t => {
  const pid = async () => JSON.parse((await mountAsUser()).stdout.toString()).pid as number
  const first = await pid()
  process.kill(first, 'SIGTERM')
  await eventually('unmounted', () => !isMounted(dir))
  const second = await pid()
  process.kill(second, 'SIGKILL')
  await eventually('dead', async () => (await user('ls', [dir])).code !== 0)
  const third = await pid()
  t.equal((await user('cat', [`${dir}/latest/small.txt`])).stdout.toString(), 'small\n')
  process.kill(third, 'SIGTERM')
  await eventually('unmounted', () => !isMounted(dir))
})

t.test('killed while files are read: nobody hangs, where the kernel lets users end their connections', async t => {
  // As every machine with systemd has it.
  const control = '/sys/fs/fuse/connections'
  if (!readMountTable().some(({ type }) => type === 'fusectl')) {
    t.equal((await run('mount', ['-t', 'fusectl', 'fusectl', control])).code, 0)
    t.teardown(() => run('umount', ['-l', control]))
  }
  t.match((await user(daybook, ['doctor'])).stdout.toString(), /^ok +guard /m)
  for (let round = 0; round < 4; round++) {
    const { pid } = JSON.parse((await mountAsUser()).stdout.toString())
    const exited = eventually('the process ends', () => isGone(pid), 60_000)
    exited.catch(() => {})
    const { over } = await killWhileRead({
      files: ['2026-11-18', '2026-11-19'].map(day => `${dir}/${day}/big.bin`), killAt: (5 + 15 * round) * 1e6, as: ['setpriv', ...AS_NOBODY],
      kill: () => { process.kill(pid, 'SIGKILL') }, exited, dir,
    })
    t.equal(over, true)
    const unmounted = await user(daybook, ['unmount', dir])
    t.equal(unmounted.code, 0, unmounted.stderr)
  }
})

t.test('busy: an ordinary user gets the same answers', async t => {
  for (const way of ['unmount --lazy', 'SIGTERM']) {
    const { pid } = JSON.parse((await mountAsUser()).stdout.toString())
    const inside = spawn('setpriv', [...AS_NOBODY, 'sh', '-c', 'exec 3< "$0/latest/small.txt"; echo there; read word; cat <&3', dir], { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => { inside.kill('SIGKILL') })
    let said = ''
    inside.stdout.on('data', chunk => { said += chunk })
    await eventually('somebody is inside', () => said.startsWith('there'))
    const refused = await user(daybook, ['unmount', dir])
    t.equal(refused.code, 1)
    t.match(refused.stderr, /is in use\nhint: /)
    if (way === 'SIGTERM') process.kill(pid, 'SIGTERM')
    else t.equal((await user(daybook, ['unmount', '--lazy', dir])).code, 0)
    await eventually('out of the tree', () => !isMounted(dir))
    inside.stdin.end('\n')
    await eventually(`${way}: what was open is served`, () => said === 'there\nsmall\n')
    await eventually('and then it ends', () => isGone(pid))
  }
})

t.test('a user is told what he may not do, and how to mend it', async t => {
  if (!userAllowOther()) {
    const { code, stderr } = await user(daybook, ['mount', '--allow-other', dir])
    t.equal(code, 1)
    t.match(stderr, /--allow-other is for root.*\nhint: as root: echo user_allow_other >> \/etc\/fuse.conf/)
  }
  const roots = life.newDir('roots')
  const { code, stderr } = await user(daybook, ['mount', roots])
  t.equal(code, 2)
  t.match(stderr, /no permission to mount at .*roots\nhint: /)
})
