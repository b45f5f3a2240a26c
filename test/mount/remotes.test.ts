import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { randomBytes, textBytes } from '../fixtures/bytes.js'
import { MIB } from '../fixtures/every-kind.js'
import { exactness, Original } from '../fixtures/exactness.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { daybook, mount } from '../fixtures/mount-process.js'
import { environment, mountOptions, REMOTES, type Reach } from '../fixtures/remotes.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { output, run } from '../fixtures/run.js'
import { tier } from '../fixtures/tiers.js'
import { tools, ToolsSource } from '../fixtures/tools.js'

// restic writes a repository to a real server of each kind; daybook lists it, mounts it, and what is copied out of the mount is what was backed up. Then
// what exactness.test.ts and tools.test.ts show of local repositories is shown through each of them.
t.setTimeout(900_000)

if (mountTier(t)) {
  const place = new MountCase(t, 'remotes')
  const source = place.path('source')
  makeSource(source)
  // Made by the newest restic; what the others write differently is no matter of where it lies. Less of everything that is merely much.
  const original = await Original.make(place.path('every-kind'), { largeLength: 30 * MIB, sparseLength: 1200 * MIB, crowd: 5000, depth: 40 })
  const exact = await place.repository({ name: 'exact' })
  await exact.backup([original.dir])
  const toolsSource = ToolsSource.make(place.path('for-tools'), { sparseLength: 10 * MIB, light: true })
  const forTools = await place.repository({ name: 'for-tools-repository' })
  const { summary } = await forTools.backup([toolsSource.dir])

  for (const remote of REMOTES) {
    // Each server is started inside of a test: tap takes a file for finished when nothing runs while it waits.
    await t.test(remote.name, async t => {
      if (!tier(t, remote.tier, remote.lack)) return
      const server = await remote.start(place.path(remote.name))
      t.teardown(() => server.stop())
      await t.test('what restic writes', t => judge(t, place, source, server.at('repository')))
      if (remote.name === 'rest') await t.test('user and password in the environment', t => judge(t, place, source, withoutPassword(server.at('another'))))
      await t.test('exactness', async t => {
        const place = new MountCase(t, 'dr')
        const reached = mountOptions(await server.take(exact.dir))
        await exactness(t, original, { restic: exact.restic, mount: cacheDir => place.mount(exact, { ...reached, cacheDir }), cacheDir: place.path('cache') })
      })
      await t.test('tools', async t => {
        const place = new MountCase(t, 'dr')
        const reached = mountOptions(await server.take(forTools.dir))
        await tools(t, { place, source: toolsSource, files: summary['files_new'], mount: options => place.mount(forTools, { ...reached, ...options }) })
      })
    })
  }
}

function withoutPassword({ location }: Reach): Reach {
  const [, user, password] = /\/\/(.*):(.*)@/.exec(location)!
  return { location: location.replace(`${user}:${password}@`, ''), env: { RESTIC_REST_USERNAME: user, RESTIC_REST_PASSWORD: password } }
}

async function judge(t: Test, place: MountCase, source: string, reach: Reach): Promise<void> {
  const { location, resticArgs = [], daybookArgs = [] } = reach
  const repository = new ResticRepository(newestRestic()!, place.path('unused'))
  const settings = { env: { ...environment(repository, reach), RESTIC_CACHE_DIR: place.path('restic-cache') } }
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
      const mounted = daemon ? null : await mount(repository, { dir, cacheDir, ...mountOptions(reach) })
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
