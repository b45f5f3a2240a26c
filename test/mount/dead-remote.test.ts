import { mkdirSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { randomBytes } from '../fixtures/bytes.js'
import { makeEmptyRepository } from '../fixtures/empty-repository.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { daybook } from '../fixtures/mount-process.js'
import { hasRclone, Rclone } from '../fixtures/rclone.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { eventually, output, run } from '../fixtures/run.js'
import { tier } from '../fixtures/tiers.js'

// A server that goes silent (stopped with SIGSTOP, so that its connections stay and nothing comes): who reads gets an error after --timeout, who is
// interrupted goes at once, and when the server is back so is the mount.
t.setTimeout(200_000)
const TIMEOUT_S = 4
const FAR = randomBytes('far', 96 << 20)
/** A page in it, by its number in MiB. */
const page = (path: string, mib: number) => run('dd', [`if=${path}`, 'bs=4096', 'count=1', `skip=${mib * 256}`])

if (mountTier(t) && tier(t, 'rclone', hasRclone() || 'no rclone')) {
  const place = new MountCase(t, 'dead')
  const server = await Rclone.start(place.path('rclone'))
  const pause = () => process.kill(server.child.pid!, 'SIGSTOP')
  const resume = () => process.kill(server.child.pid!, 'SIGCONT')
  const source = place.path('source')
  mkdirSync(source)
  writeFileSync(join(source, 'far'), FAR)
  const repository = new ResticRepository(newestRestic()!, `rest:${server.url}/repository/`)
  const env = { ...repository.env, RESTIC_CACHE_DIR: place.path('restic-cache') }
  const restic = (...args: string[]) => output(repository.restic.path, args, { env })
  makeEmptyRepository(place.path('rclone', 'repository'), repository.password, repository.format)
  await restic('backup', '--pack-size', '4', source)

  await t.test('a mount whose server goes silent', async t => {
    t.teardown(async () => {
      resume()
      await mounted.unmount()
      await server.stop()
    })
    const mounted = await place.mount(repository, { globals: ['-r', repository.dir, '--timeout', String(TIMEOUT_S)], env: { RESTIC_CACHE_DIR: place.path('restic-cache') } })
    const far = mounted.latest(source, 'far')
    await output('ls', ['-lR', mounted.latest(source)])

    // Nothing was read yet, so nothing was read ahead.
    pause()
    await t.test('a read fails after the time set', async t => {
      const started = performance.now()
      const { code, stderr } = await page(far, 80)
      const took = (performance.now() - started) / 1000
      t.not(code, 0)
      t.match(stderr, /Input\/output error/)
      t.ok(took > TIMEOUT_S * 0.8 && took < TIMEOUT_S * 8, `${took.toFixed(1)} s`)
    })
    await t.test('an interrupted program goes at once', async t => {
      const child = spawn('dd', [`if=${far}`, 'of=/dev/null', 'bs=4096', 'skip=15000'], { stdio: 'ignore' })
      const exited = new Promise(resolve => child.on('exit', resolve))
      await new Promise(resolve => setTimeout(resolve, 1000))
      const started = performance.now()
      child.kill('SIGINT')
      await exited
      t.ok(performance.now() - started < 500, `${Math.round(performance.now() - started)} ms`)
    })
    await t.test('what is known is there all the same', async t => {
      t.equal((await output('ls', [mounted.latest(source)])).toString().trim().split('\n').length, 1)
    })

    resume()
    await t.test('the server is back, and so is the mount', async t => {
      for (const mib of [80, 58, 30]) {
        const bytes = await eventually('it can be read', async () => {
          const { code, stdout } = await page(far, mib)
          return code === 0 ? stdout : null
        }, 60_000)
        t.ok(bytes.equals(FAR.subarray(mib << 20, (mib << 20) + 4096)), `${mib} MiB`)
      }
    })
    await eventually('the log speaks of it', () => /answers again/.test(mounted.output))
    t.match(mounted.output, /trying again/)
  })

  await t.test('a server that is not there is said soon', async t => {
    const started = performance.now()
    const { code, stderr } = await run(daybook, ['-r', repository.dir, '--timeout', '60', 'snapshots'], { env })
    t.not(code, 0)
    t.match(stderr, /cannot reach rest:.*: it refuses the connection/)
    t.ok(performance.now() - started < 40_000)
  })
}
