import { cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { DamagedFile, MountStatus } from '../../src/mount/status/record.js'
import { Lifecycle } from '../fixtures/lifecycle.js'
import { mountTier } from '../fixtures/mount-case.js'
import { hasRclone, Rclone } from '../fixtures/rclone.js'
import type { MountProcess } from '../fixtures/mount-process.js'
import { eventually, output, run, type Result } from '../fixtures/run.js'
import { tier } from '../fixtures/tiers.js'

// `daybook status` of real mounts, well and unwell.
t.setTimeout(300_000)
if (!mountTier(t)) process.exit()

const life = await Lifecycle.make(t, 'status')
const runtime = life.path('run')
const env = { DAYBOOK_RUNTIME_DIR: runtime }
const status = (...args: string[]): Promise<Result> => life.cli(['status', ...args], { env })
const sockets = () => existsSync(runtime) ? readdirSync(runtime).map(name => join(runtime, name)) : []

interface Told { readonly code: number | null, readonly ok: boolean, readonly mount: MountStatus & { pid: number, ok: boolean } }
async function told(mounted: MountProcess): Promise<Told> {
  const { code, stdout, stderr } = await status(mounted.dir, '--json')
  if (code !== 0 && code !== 3) throw new Error(stderr)
  const { ok, mounts: [mount] } = JSON.parse(stdout.toString())
  return { code, ok, mount }
}

t.test('no mount', async t => {
  const dir = life.newDir('nothing')
  const { code, stdout, stderr } = await status(dir)
  t.strictSame([code, stdout.toString(), stderr], [4, '', `daybook: no daybook mount is at ${dir}\n`])
  const json = await status('--json', dir)
  t.strictSame([json.code, JSON.parse(json.stdout.toString())], [4, { message_type: 'status', ok: false, mounts: [] }])
  t.equal((await status(life.path('not there'))).code, 2)
})

t.test('a healthy one', async t => {
  const before = Date.now()
  const mounted = await life.mount(life.repo, { env })
  const { code, ok, mount } = await told(mounted)
  t.strictSame([code, ok, mount.ok], [0, true, true])
  t.match(mount, {
    mountpoint: mounted.dir, state: 'serving', repository: life.repo.dir, pid: mounted.child.pid, snapshots: 2, newest: { name: '2026-11-19' }, cache: null,
    locations: [{ location: life.repo.dir, state: 'up', since: null, last_error: null }], damage: { count: 0, last: [] }, errors: {},
  })
  t.ok(Date.parse(mount.since) >= before - 1000 && Date.parse(mount.since) <= Date.now())
  t.equal(new Date(mount.newest!.time).getTime(), new Date(2026, 10, 19, 10).getTime())
  const text = (await status(mounted.dir)).stdout.toString()
  t.match(text, new RegExp(`^${mounted.dir}\n  repository  ${life.repo.dir}\n  process     ${mounted.child.pid}, since [^]*  snapshots   2, the newest 2026-11-19, `))

  await t.test('two: a table', async t => {
    const other = await life.mount(life.repo, { env, cacheDir: `${mounted.dir}-cache` })
    const text = (await status()).stdout.toString()
    t.match(text, /^Mountpoint +State +Snapshots +Newest +Age +Repository\n/)
    for (const { dir } of [mounted, other]) t.match(text, new RegExp(`^${dir} +ok +2 +2026-11-19 .* ${life.repo.dir}$`, 'm'))
    await other.unmount()
  })

  await t.test('its socket is for its user alone', async t => {
    const [path] = sockets()
    t.equal(statSync(runtime).mode & 0o7777, 0o700)
    t.equal(statSync(path).mode & 0o7777, 0o600)
    await output('chmod', ['755', life.dir])
    const nobody = (...args: string[]) => run('setpriv', ['--reuid', '65534', '--regid', '65534', '--clear-groups', ...args], { cwd: '/', env: { PATH: process.env.PATH, ...env } })
    const connecting = ['-e', `require('net').connect('${path}').on('error', e => console.log(e.code)).on('connect', () => console.log('in'))`]
    const shut = await nobody(process.execPath, ...connecting)
    t.equal(shut.stdout.toString(), 'EACCES\n', shut.stderr)
    await output('chmod', ['711', runtime])
    t.equal((await nobody(process.execPath, ...connecting)).stdout.toString(), 'EACCES\n', 'of itself, too')
    await output('chmod', ['700', runtime])
  })

  await t.test('garbage at its socket, and a client that never reads', async t => {
    const [path] = sockets()
    const clients = ['garbage\n', 'x'.repeat(1 << 20), '{"daybook":1,"ask":"status"}\n', ''].map(bytes => {
      const client = connect(path).on('error', () => {}).pause()
      client.write(bytes)
      return client
    })
    t.equal((await told(mounted)).code, 0)
    t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n')
    for (const client of clients) client.destroy()
  })

  await mounted.unmount()
  t.strictSame(sockets(), [], 'the socket goes with the mount')
  t.equal((await status(mounted.dir)).code, 4)
})

t.test('a mount without a runtime directory works, and is silent', async t => {
  const mounted = await life.mount(life.repo, { env: { DAYBOOK_RUNTIME_DIR: '/proc/nowhere' } })
  t.equal(readFileSync(mounted.latest('small.txt'), 'utf8'), 'small\n')
  const { code, mount } = await told(mounted)
  t.equal(code, 0)
  t.strictSame(mount, { mountpoint: mounted.dir, state: 'silent', ok: true } as unknown)
  await mounted.unmount()
})

t.test('a process that was killed', async t => {
  const mounted = await life.mount(life.repo, { env })
  t.equal(sockets().length, 1)
  mounted.child.kill('SIGKILL')
  await mounted.exited
  const { stdout } = await eventually('it is said to be dead', async () => {
    const result = await status(mounted.dir)
    return result.code === 3 && result
  })
  t.match(stdout.toString(), 'its process has died')
  await eventually('its socket is removed', async () => {
    await status(mounted.dir)
    return sockets().length === 0
  })
  const again = await life.mount(life.repo, { env, dir: mounted.dir })
  t.equal((await told(again)).code, 0)
  await again.unmount()
})

t.test('a damaged pack', async t => {
  const damaged = life.repo.dir + '-damaged'
  cpSync(life.repo.dir, damaged, { recursive: true })
  const pack = damageLargestPack(damaged)
  const mounted = await life.mount(life.repo, { env, globals: ['-r', damaged] })
  t.equal((await told(mounted)).code, 0, 'nobody has seen it yet')
  t.not((await run('cat', [mounted.latest('big.bin')])).code, 0)
  const { code, ok, mount: { damage, errors } } = await eventually('it is told; an answer is good for a moment', async () => {
    const answer = await told(mounted)
    return answer.code !== 0 && answer
  })
  t.strictSame([code, ok], [3, false])
  checkDamage(t, damage.last, pack, damaged)
  t.ok(errors.ERR_CORRUPT > 0)
  const { code: textCode, stdout } = await status(mounted.dir)
  t.equal(textCode, 3)
  t.match(stdout.toString(), `pack ${pack}`)
  await mounted.unmount()
})

t.test('a replica that is down, one that is damaged', async t => {
  if (!tier(t, 'rclone', hasRclone() || 'no rclone')) return
  const dirs = ['a', 'b'].map(name => life.path(name))
  for (const dir of dirs) cpSync(life.repo.dir, join(dir, 'repository'), { recursive: true })
  const pack = damageLargestPack(join(dirs[0], 'repository'))
  const login = { user: 'anna', password: 'secret' }
  const servers = await Promise.all(dirs.map(dir => Rclone.start(dir, login)))
  t.teardown(() => Promise.all(servers.map(server => server.stop())))
  const shown = servers.map(({ url }) => `rest:${url.replace('//', '//anna:***@')}/repository/`)
  const [first, second] = shown.map(location => location.replace('***', 'secret'))
  const mounted = await life.mount(life.repo, { env, globals: ['-r', first, '--replica', second] })
  const { code, mount } = await told(mounted)
  t.equal(code, 0)
  t.match(mount.locations, shown.map(location => ({ location, state: 'up' })))
  t.type(mount.cache!.max_bytes, 'number')

  t.equal((await run('cat', [mounted.latest('big.bin')])).code, 0, 'the second has it')
  const damaged = await told(mounted)
  t.equal(damaged.code, 3)
  checkDamage(t, damaged.mount.damage.last, pack, shown[0])

  await servers[0].stop()
  const down = await eventually('it is noticed', async () => {
    mounted.refresh()
    const { mount } = await told(mounted)
    return mount.locations[0].state === 'down' && mount
  })
  t.ok(Date.parse(down.locations[0].since!) <= Date.now())
  t.match(down.locations[0].last_error!.message, shown[0])
  t.equal(down.locations[1].state, 'up')
  const text = await status(mounted.dir)
  t.equal(text.code, 3)
  t.match(text.stdout.toString(), / down +2\d{3}-/)
  const json = await status(mounted.dir, '--json')
  for (const { stdout } of [text, json]) t.notMatch(stdout.toString(), 'secret')
  servers[0] = await Rclone.start(dirs[0], { ...login, port: Number(new URL(servers[0].url).port) })
  await eventually('it is in use again', async () => (await told(mounted)).mount.locations[0].state === 'up', 60_000)
  await mounted.unmount()
})

t.test('a single remote that is down', async t => {
  if (!tier(t, 'rclone', hasRclone() || 'no rclone')) return
  const dir = life.path('single')
  cpSync(life.repo.dir, join(dir, 'repository'), { recursive: true })
  const server = await Rclone.start(dir)
  const mounted = await life.mount(life.repo, { env, globals: ['-r', `rest:${server.url}/repository/`, '--timeout', '2', '--limit-download', '100000'] })
  t.equal((await told(mounted)).code, 0)
  await server.stop()
  await eventually('it is noticed', async () => {
    mounted.refresh()
    const { code, mount } = await told(mounted)
    return code === 3 && mount.locations[0].state === 'down' && mount.locations[0].last_error !== null
  })
  await mounted.unmount()
})

t.test('a folder that is gone', async t => {
  const dir = life.path('folder')
  cpSync(life.repo.dir, dir, { recursive: true })
  const mounted = await life.mount(life.repo, { env, globals: ['-r', dir] })
  await output('mv', [dir, `${dir}-away`])
  await eventually('it is noticed', async () => {
    mounted.refresh()
    const { code, mount } = await told(mounted)
    return code === 3 && mount.locations[0].state === 'down'
  })
  await output('mv', [`${dir}-away`, dir])
  await eventually('it is back', async () => {
    mounted.refresh()
    return (await told(mounted)).code === 0
  })
  await mounted.unmount()
})

function checkDamage(t: Test, last: readonly DamagedFile[], pack: string, location: string): void {
  const [found] = last
  t.match(found, { file: `pack ${pack}`, location })
  t.ok(found.times >= 1 && Math.abs(Date.parse(found.time) - Date.now()) < 60_000)
}

/** One bit in each 64 KiB. @returns its name */
function damageLargestPack(repository: string): string {
  const paths = readdirSync(join(repository, 'data'), { recursive: true, encoding: 'utf8' }).filter(name => name.length > 60).map(name => join(repository, 'data', name))
  const path = paths.sort((a, b) => statSync(a).size - statSync(b).size).at(-1)!
  const bytes = readFileSync(path)
  for (let at = 0; at < bytes.length - 60_000; at += 65_536) bytes[at + 1000] ^= 1
  writeFileSync(path, bytes)
  return path.slice(-64)
}
