import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import t from 'tap'
import { FarLink } from '../../scripts/bench/far-link.js'
import { randomBytes, textBytes } from '../fixtures/bytes.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { daybook } from '../fixtures/mount-process.js'
import { hasRclone, Rclone } from '../fixtures/rclone.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { eventually, output, run } from '../fixtures/run.js'
import { tier } from '../fixtures/tiers.js'

// A repository at two real servers: one is killed and started again, both hold damaged packs (different ones), while cp -r runs. What is copied is right.
t.setTimeout(300_000)

if (mountTier(t) && tier(t, 'rclone', hasRclone() || 'no rclone')) {
  const place = new MountCase(t, 'replicas')
  const source = place.path('source')
  makeSource(source)
  const dirs = ['a', 'b'].map(name => place.path(name, 'repository'))
  const repository = await ResticRepository.init(newestRestic()!, dirs[0])
  await repository.backup(['.'], { cwd: source, args: ['--pack-size', '4'] })
  cpSync(dirs[0], dirs[1], { recursive: true })
  const packs = readdirSync(join(dirs[0], 'data'), { recursive: true, encoding: 'utf8' }).filter(name => name.length > 60).sort()

  await t.test('a repository with a replica', async t => {
    let servers = await Promise.all(['a', 'b'].map(name => Rclone.start(place.path(name))))
    t.teardown(() => Promise.all(servers.map(server => server.stop())))
    const [first, second] = servers.map(({ url }) => `rest:${url}/repository/`)
    const restart = async (n: number) => { servers[n] = await Rclone.start(servers[n].dir, { port: Number(new URL(servers[n].url).port) }) }
    const globals = ['-r', first, '--replica', second, '--timeout', '30']
    const copies = (mounted: { latest(): string }, target: string) => output('cp', ['-r', `${mounted.latest()}/.`, target])
    const same = (target: string) => output('diff', ['-r', source, target])

    await t.test('the first is killed during a copy and started again, half of the packs of the second are damaged', async t => {
      for (const pack of packs.filter((_, i) => i % 2 === 0)) damage(join(dirs[1], 'data', pack))
      const mounted = await place.mount(repository, { globals: [...globals, '--limit-download', '8192'] })
      const copying = copies(mounted, place.path('copy-1'))
      let copied = false
      const trouble = (async () => {
        for (let n = 0; n < 4 && !copied; n++) {
          await new Promise(resolve => setTimeout(resolve, 700))
          await servers[0].stop()
          await new Promise(resolve => setTimeout(resolve, 1500))
          await restart(0)
        }
      })()
      await copying.finally(() => { copied = true })
      await trouble
      await same(place.path('copy-1'))
      t.match(mounted.output, /left alone until it answers again/)
      t.match(mounted.output, /is in use again/)
      await mounted.unmount()
    })

    await t.test('the other half is damaged in the first', async t => {
      const damaged = packs.filter((_, i) => i % 2 === 1).filter(pack => damage(join(dirs[0], 'data', pack)))
      // The replica is further away: it does not answer in the first one's place, only after it.
      const far = await FarLink.start({ port: Number(new URL(servers[1].url).port), roundTripMs: 400, bitsPerSecond: 0 })
      t.teardown(() => far.stop())
      const mounted = await place.mount(repository, { globals: ['-r', first, '--replica', `rest:http://127.0.0.1:${far.port}/repository/`, '--no-cache'] })
      await copies(mounted, place.path('copy-2'))
      await same(place.path('copy-2'))
      const told = mounted.output.split('\n').filter(line => / is damaged at /.test(line)).map(line => /pack (\S+) is damaged at (\S+): /.exec(line)!.slice(1).join(' '))
      t.strictSame(told.sort(), damaged.map(pack => `${basename(pack)} ${first}`).sort(), 'each of them is told, once, with the location')
      await mounted.unmount()
    })

    await t.test('without the replica those files cannot be read', async t => {
      const mounted = await place.mount(repository, { globals: ['-r', first] })
      const { code } = await run('cp', ['-r', `${mounted.latest()}/.`, place.path('copy-3')])
      t.not(code, 0)
      await mounted.unmount()
    })

    await t.test('snapshots and ls, and a mount, with the first one down from the start', async t => {
      await servers[0].stop()
      const settings = { env: repository.env }
      const say = (...args: string[]) => output(daybook, [...globals, '--cache-dir', place.path('cache'), ...args], settings)
      t.equal((JSON.parse((await say('snapshots', '--json')).toString()) as unknown[]).length, 1)
      t.match((await say('ls', 'latest')).toString(), 'folder 0')
      await run(daybook, [...globals, '--cache-dir', place.path('cache-2'), 'ls', 'latest'], { env: { ...repository.env, DAYBOOK_REPLICAS: second } })
      const mounted = await place.mount(repository, { globals })
      await output('ls', ['-lR', mounted.latest()])
      await restart(0)
      await eventually('it is in use again', () => /is in use again/.test(mounted.output), 60_000)
      await copies(mounted, place.path('copy-4'))
      await same(place.path('copy-4'))
      await mounted.unmount()
    })

    await t.test('with both down, what is known is shown, from the start, and what is not is had once one is back', async t => {
      const cacheDir = place.path('cache-known')
      const before = await place.mount(repository, { globals, cacheDir })
      await output('ls', ['-lR', before.latest()])
      await output('cp', ['-r', before.latest('folder 3'), place.path('known')])
      await before.unmount()
      await Promise.all(servers.map(server => server.stop()))
      const mounted = await place.mount(repository, { globals: ['-r', first, '--replica', second, '--timeout', '3'], cacheDir })
      await output('ls', ['-lR', mounted.latest()])
      await output('diff', ['-r', join(source, 'folder 3'), mounted.latest('folder 3')])
      const { code, stderr } = await run('cat', [mounted.latest('folder 19', '39.txt')])
      t.not(code, 0)
      t.match(stderr, /Input\/output error/)
      for (const n of [0, 1]) await restart(n)
      await eventually('it is in use again', () => /is in use again/.test(mounted.output), 60_000)
      await copies(mounted, place.path('copy-6'))
      await same(place.path('copy-6'))
      await mounted.unmount()
    })

    await t.test('a location with another repository is said and not used', async t => {
      const other = await ResticRepository.init(newestRestic()!, place.path('another'))
      const mounted = await place.mount(repository, { globals: ['-r', first, '--replica', other.dir, '--replica', second] })
      await eventually('it is said', () => /another holds another repository/.test(mounted.output))
      await copies(mounted, place.path('copy-5'))
      await same(place.path('copy-5'))
      await mounted.unmount()
    })

    await t.test('the same location twice is a mistake', async t => {
      const { code, stderr } = await run(daybook, ['-r', first, '--replica', first, 'snapshots'], { env: repository.env })
      t.not(code, 0)
      t.match(stderr, /given twice/)
    })
  })
}

/** One bit in each 64 KiB. @returns false: it is too small for that, and left as it is */
function damage(path: string): boolean {
  const bytes = readFileSync(path)
  if (bytes.length < 61_000) return false
  for (let at = 0; at < bytes.length - 60_000; at += 65_536) bytes[at + 1000] ^= 1
  writeFileSync(path, bytes)
  return true
}

/** Many small files, one that takes several packs. */
function makeSource(dir: string): void {
  for (let folder = 0; folder < 20; folder++) {
    mkdirSync(join(dir, `folder ${folder}`), { recursive: true })
    for (let file = 0; file < 40; file++) writeFileSync(join(dir, `folder ${folder}`, `${file}.txt`), randomBytes(folder * 100 + file, 300 * file))
  }
  writeFileSync(join(dir, 'random'), randomBytes('replicas', 32 << 20))
  writeFileSync(join(dir, 'text'), textBytes('replicas', 8 << 20))
}
