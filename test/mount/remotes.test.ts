import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { randomBytes, textBytes } from '../fixtures/bytes.js'
import { Ceph, lackOfCeph } from '../fixtures/ceph.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { daybook, mount } from '../fixtures/mount-process.js'
import { hasRclone, Rclone } from '../fixtures/rclone.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { output, run } from '../fixtures/run.js'
import { hasSshd, Sshd } from '../fixtures/sshd.js'
import { tier } from '../fixtures/tiers.js'

// restic writes a repository to a real server of each kind; daybook lists it, mounts it, and what is copied out of the mount is what was backed up.
t.setTimeout(300_000)

/** A repository as restic reaches it, and what daybook has to be told besides. */
interface Remote { readonly location: string, readonly env?: NodeJS.ProcessEnv, readonly resticArgs?: string[], readonly daybookArgs?: string[] }

if (mountTier(t)) {
  const place = new MountCase(t, 'remotes')
  const source = place.path('source')
  makeSource(source)

  // Each server is started inside of a test: tap takes a file for finished when nothing runs while it waits.
  await t.test('rest', async t => {
    if (!tier(t, 'rclone', hasRclone() || 'no rclone')) return
    const server = await Rclone.start(place.path('rclone'), { user: 'anna', password: 'secret' })
    t.teardown(() => server.stop())
    const { host } = new URL(server.url)
    await t.test('user and password in the location', t => judge(t, place, source, { location: `rest:http://anna:secret@${host}/repository/` }))
    await t.test('and in the environment', t => judge(t, place, source, {
      location: `rest:http://${host}/another/`, env: { RESTIC_REST_USERNAME: 'anna', RESTIC_REST_PASSWORD: 'secret' },
    }))
  })

  await t.test('sftp', async t => {
    if (!tier(t, 'sshd', hasSshd() || 'no sshd, or not root')) return
    const dir = place.path('sshd')
    const server = await Sshd.start(dir)
    t.teardown(() => server.stop())
    const knownHosts = join(dir, 'known_hosts')
    writeFileSync(knownHosts, `[127.0.0.1]:${server.port} ${readFileSync(join(dir, 'host.pub'), 'utf8')}`)
    const config = join(dir, 'with_known_hosts')
    writeFileSync(config, `${readFileSync(server.config, 'utf8').replace(/(StrictHostKeyChecking|UserKnownHostsFile).*/g, '')}\nUserKnownHostsFile ${knownHosts}\n`)
    await judge(t, place, source, {
      location: `sftp:backup:${place.path('over-sftp')}`, daybookArgs: ['-o', `sftp.args=-F ${config}`],
      resticArgs: ['-o', `sftp.command=ssh -F ${config} backup -s sftp`], // older ones do not know sftp.args
    })
  })

  await t.test('s3', async t => {
    if (!tier(t, 'ceph', lackOfCeph)) return
    const ceph = await Ceph.start(place.path('ceph'))
    t.teardown(() => ceph.stop())
    await judge(t, place, source, { location: `s3:${ceph.endpoint}/backups/of/somebody`, env: ceph.env })
  })
}

async function judge(t: Test, place: MountCase, source: string, { location, env = {}, resticArgs = [], daybookArgs = [] }: Remote): Promise<void> {
  const repository = new ResticRepository(newestRestic()!, place.path('unused'))
  const settings = { env: { ...repository.env, RESTIC_REPOSITORY: location, RESTIC_CACHE_DIR: place.path('restic-cache'), ...env } }
  const restic = (...args: string[]) => output(repository.restic.path, [...resticArgs, ...args], settings)
  const cacheDir = place.path(`cache-${location.replace(/\W/g, '')}`)
  const say = async (...args: string[]) => (await output(daybook, [...daybookArgs, '-r', location, '--cache-dir', cacheDir, ...args], settings)).toString()

  await t.test('a repository that is not there', async t => {
    const { code, stderr } = await run(daybook, [...daybookArgs, '-r', location, '--cache-dir', cacheDir, 'snapshots'], settings)
    t.equal(code, 10, stderr)
    t.match(stderr, /there is no repository/)
    t.notMatch(stderr, 'secret')
  })

  await restic('init')
  await restic('backup', '--host', 'host', source)
  await t.test('snapshots and ls', async t => {
    const [snapshot] = JSON.parse(await say('snapshots', '--json')) as { id: string, paths: string[] }[]
    t.strictSame(snapshot.paths, [source])
    t.strictSame((await say('ls', '-R', `latest:${source}`)).trim().split('\n').length, Number((await output('find', [source, '-mindepth', '1', '-printf', '.'])).length))
  })

  for (const daemon of [false, true]) {
    await t.test(daemon ? 'mounted in the background' : 'mounted', async t => {
      const dir = place.path(`mnt-${cacheDir.length}-${daemon}-${Math.random().toString(36).slice(2)}`)
      const copy = place.path(`copy-${Math.random().toString(36).slice(2)}`)
      const mounted = daemon ? null : await mount(repository, { dir, cacheDir, globals: [...daybookArgs, '-r', location], env })
      if (daemon) {
        await output('mkdir', [dir])
        await say('mount', '--daemon', '--log-file', place.path('log'), dir)
      }
      try {
        await output('cp', ['-r', `${dir}/latest${source}`, copy])
        await output('diff', ['-r', source, copy])
        t.pass('cp -r brings back what was backed up')
        if (mounted !== null) t.notMatch(mounted.output, 'secret')
      } finally {
        if (mounted === null) await output(daybook, ['unmount', dir])
        else await mounted.unmount()
      }
    })
  }
}

/** Many small files, one that takes several packs, one that compresses. */
function makeSource(dir: string): void {
  for (let folder = 0; folder < 20; folder++) {
    mkdirSync(join(dir, `folder ${folder}`), { recursive: true })
    for (let file = 0; file < 40; file++) writeFileSync(join(dir, `folder ${folder}`, `${file}.txt`), textBytes(folder * 100 + file, 100 * file))
  }
  writeFileSync(join(dir, 'random'), randomBytes('remotes', 40 << 20))
  writeFileSync(join(dir, 'text'), textBytes('remotes', 8 << 20))
}
