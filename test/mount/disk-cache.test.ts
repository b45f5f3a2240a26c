import { readdirSync, readFileSync, rmSync, statSync, writeFileSync, mkdirSync, openSync, writeSync, closeSync } from 'node:fs'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { randomBytes, textBytes } from '../fixtures/bytes.js'
import { makeEmptyRepository } from '../fixtures/empty-repository.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { daybook, type MountProcess } from '../fixtures/mount-process.js'
import { hasRclone, Rclone } from '../fixtures/rclone.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { eventually, output, run } from '../fixtures/run.js'
import { tier } from '../fixtures/tiers.js'

// A repository behind a real server, mounted again and again with the same cache directory: what was read once does not cross the line a second time, and
// is there without the server.
t.setTimeout(300_000)

/** Passes everything on to a server, and notes what is asked. */
class Witness {
  readonly asked: string[] = []
  packBytes = 0
  readonly server: Server

  constructor(target: string) {
    const { hostname, port } = new URL(target)
    this.server = createServer((incoming, outgoing) => {
      this.asked.push(`${incoming.method} ${incoming.url}`)
      const isPack = /\/data\/[0-9a-f]{64}$/.test(incoming.url!)
      const passed = request({ hostname, port, method: incoming.method, path: incoming.url, headers: incoming.headers }, answer => {
        outgoing.writeHead(answer.statusCode!, answer.headers)
        answer.on('data', chunk => { if (isPack) this.packBytes += chunk.length })
        answer.pipe(outgoing)
      })
      passed.on('error', () => outgoing.destroy())
      incoming.pipe(passed)
    })
  }

  listen(port = 0): Promise<number> { return new Promise(resolve => this.server.listen(port, '127.0.0.1', () => resolve((this.server.address() as AddressInfo).port))) }

  stop(): Promise<void> {
    this.server.closeAllConnections()
    return new Promise(resolve => this.server.close(() => resolve()))
  }

  take(): { packs: string[], packBytes: number } {
    const packs = this.asked.splice(0).filter(line => /\/data\/[0-9a-f]{64}$/.test(line))
    const { packBytes } = this
    this.packBytes = 0
    return { packs, packBytes }
  }
}

if (mountTier(t) && tier(t, 'rclone', hasRclone() || 'no rclone')) {
  const place = new MountCase(t, 'disk-cache')
  const rclone = await Rclone.start(place.path('rclone'))
  const witness = new Witness(rclone.url)
  const port = await witness.listen()
  t.teardown(async () => {
    await witness.stop().catch(() => {})
    await rclone.stop()
  })
  const source = place.path('source')
  makeSource(source)
  const repository = new ResticRepository(newestRestic()!, `rest:http://127.0.0.1:${port}/repository/`)
  const restic = (...args: string[]) => output(repository.restic.path, args, { env: { ...repository.env, RESTIC_REPOSITORY: repository.dir, RESTIC_CACHE_DIR: place.path('restic-cache') } })
  makeEmptyRepository(place.path('rclone', 'repository'), repository.password, repository.format)
  await restic('backup', '--host', 'host', source)
  const cacheDir = place.path('cache')
  const mount = (...globals: string[]) => place.mount(repository, { cacheDir, globals: ['-r', repository.dir, '--timeout', '5', ...globals] })
  const copyAndCompare = async (mounted: MountProcess) => {
    const copy = place.path('copy')
    rmSync(copy, { recursive: true, force: true, maxRetries: 20 })
    await output('cp', ['-r', mounted.latest(source), copy])
    await output('diff', ['-r', source, copy])
  }
  const packsIn = (dir: string) => readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter(path => /packs\/.*\/[0-9a-f]{64}$/.test(path)).map(path => join(dir, path))
  const dropIndex = () => { for (const name of readdirSync(cacheDir)) if (/^[0-9a-f]{64}$/.test(name)) rmSync(join(cacheDir, name), { recursive: true }) }

  /** While it is written to: what was made behind the back of one pass is for the next. */
  const removeCache = () => {
    for (let tries = 0; ; tries++) {
      try { return rmSync(join(cacheDir, 'remote-1'), { recursive: true, force: true }) } catch (error) { if (tries === 500) throw error }
    }
  }

  await t.test('cold', async t => {
    witness.take()
    // What comes faster than the disk takes it is not kept.
    const mounted = await mount('--limit-download', '20000')
    await copyAndCompare(mounted)
    const { packBytes } = witness.take()
    t.ok(packBytes > 40 << 20, `${packBytes} bytes of packs`)
    await mounted.unmount()
    const stored = packsIn(cacheDir).reduce((sum, path) => sum + statSync(path).blocks * 512, 0)
    t.ok(stored > packBytes * 0.95, `${stored} of them are kept`)
    for (const path of packsIn(cacheDir)) t.notOk(readFileSync(path).includes('quick brown fox'), 'nothing that could be read')
  })

  await t.test('with another process, and the local index gone, not a byte of a pack is asked for', async t => {
    dropIndex()
    const mounted = await mount()
    await copyAndCompare(mounted)
    t.strictSame(witness.take(), { packs: [], packBytes: 0 })
    await mounted.unmount()
  })

  await t.test('what is wrong in the cache is fetched again', async t => {
    for (const path of packsIn(cacheDir)) {
      const file = openSync(path, 'r+')
      const { size } = statSync(path)
      for (let at = 5000; at < size; at += 1 << 20) writeSync(file, Buffer.from('tampered'), 0, 8, at)
      closeSync(file)
    }
    dropIndex()
    const mounted = await mount()
    await copyAndCompare(mounted)
    t.ok(witness.take().packBytes > 10 << 20)
    await mounted.unmount()
    const again = await mount()
    await copyAndCompare(again)
    t.equal(witness.take().packBytes, 0, 'once')
    await again.unmount()
  })

  await t.test('deleted while it is used', async t => {
    const mounted = await mount()
    const removing = (async () => {
      for (let i = 0; i < 10; i++) {
        removeCache()
        await new Promise(resolve => setTimeout(resolve, 100))
      }
    })()
    await copyAndCompare(mounted)
    await removing
    await copyAndCompare(mounted)
    await mounted.unmount()
  })

  await t.test('mounted twice with one cache', async t => {
    removeCache()
    witness.take()
    const [one, two] = await Promise.all([mount(), mount()])
    await output('diff', ['-r', one.latest(source), two.latest(source)])
    await output('diff', ['-r', source, one.latest(source)])
    await Promise.all([one.unmount(), two.unmount()])
    t.ok(packsIn(cacheDir).length > 0)
  })

  await t.test('killed while the cache is written', async t => {
    for (const ms of [50, 300, 700]) {
      removeCache()
      const victim = await mount()
      const copying = run('cp', ['-r', victim.latest(source), place.path(`half-${ms}`)])
      await new Promise(resolve => setTimeout(resolve, ms))
      await victim.unmount('SIGKILL')
      await copying
      const mounted = await mount()
      await copyAndCompare(mounted)
      await mounted.unmount()
    }
    t.pass('the next one serves what is right')
  })

  await t.test('the server is gone', async t => {
    // What is in the index is not asked of the repository, and so not in the cache.
    dropIndex()
    const first = await mount()
    await copyAndCompare(first)
    await first.unmount()
    await witness.stop()
    await t.test('a mount starts and serves all that is there', async t => {
      const started = performance.now()
      const mounted = await mount()
      const took = performance.now() - started
      t.ok(took < 6000, `${Math.round(took)} ms to the start`)
      await output('ls', ['-lR', mounted.latest()])
      await copyAndCompare(mounted)
      t.match(mounted.output, /does not answer: going on with what is known of it/)
      t.equal(mounted.output.split('going on with what is known').length, 2, 'said once')

      writeFileSync(join(source, 'new'), 'new')
      await output(repository.restic.path, ['-r', `rest:${rclone.url}/repository/`, '--no-cache', 'backup', '--host', 'host', '--time', '2099-01-01 00:00:00', source], { env: repository.env })
      await witness.listen(port)
      // Sooner than it looks for new snapshots by itself.
      await eventually('the server is back, and what is new on it is there', () => readdirSync(mounted.dir).includes('2099-01-01'), 45_000)
      t.match(mounted.output, /answers/)
      await copyAndCompare(mounted)
      await mounted.unmount()
      await witness.stop()
    })
    await t.test('also with the local index gone', async t => {
      dropIndex()
      const mounted = await mount()
      await copyAndCompare(mounted)
      await mounted.unmount()
    })
    await t.test('commands that end say that they could not ask', async t => {
      const { code, stderr } = await run(daybook, ['-r', repository.dir, '--timeout', '2', '--cache-dir', cacheDir, 'snapshots'], { env: repository.env })
      t.not(code, 0)
      t.match(stderr, /cannot reach/)
    })
    await t.test('without a cache nothing starts', async t => {
      const { code } = await run(daybook, ['-r', repository.dir, '--timeout', '2', '--no-cache', '--cache-dir', cacheDir, 'mount', place.path('nothing')], { env: repository.env })
      t.not(code, 0)
    })
    await witness.listen(port)
  })

  await t.test('--cache-size 0 keeps no contents, --no-cache nothing', async t => {
    for (const [option, pattern] of [[['--cache-size', '0'], /packs\//], [['--no-cache'], /remote-1/]] as const) {
      const dir = place.path(`cache${option.length}`)
      const mounted = await place.mount(repository, { cacheDir: dir, globals: ['-r', repository.dir, ...option] })
      await copyAndCompare(mounted)
      await mounted.unmount()
      t.strictSame(readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter(path => pattern.test(path) && /[0-9a-f]{64}$/.test(path)), [], option.join(' '))
    }
  })
}

function makeSource(dir: string): void {
  for (let folder = 0; folder < 20; folder++) {
    mkdirSync(join(dir, `folder ${folder}`), { recursive: true })
    for (let file = 0; file < 40; file++) writeFileSync(join(dir, `folder ${folder}`, `${file}.txt`), textBytes(folder * 100 + file, 100 * file))
  }
  writeFileSync(join(dir, 'random'), randomBytes('disk cache', 48 << 20))
  writeFileSync(join(dir, 'text'), textBytes('disk cache', 8 << 20))
}
