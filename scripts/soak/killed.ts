import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { randomBytes } from '../../test/fixtures/bytes.js'
import { guardsOf } from '../../test/fixtures/guards.js'
import { isGone } from '../../test/fixtures/lifecycle.js'
import { killWhileRead } from '../../test/fixtures/kill-while-read.js'
import { eventually } from '../../test/fixtures/run.js'
import { soak } from './soak.js'

// Killed at random moments, as long as you like, while some files are read: nobody may hang, and it must be possible to mount there again, with the
// right bytes. test/mount/killed.test.ts does a few of these.
await soak('killed', async ({ place, random, goesOn, say, fail }) => {
  const BYTES = 40_000_000, names = ['a', 'b', 'c', 'd', 'e', 'f']
  const source = place.path('source'), dir = place.path('mnt'), cacheDir = place.path('cache')
  mkdirSync(source)
  for (const name of names) writeFileSync(join(source, name), randomBytes(name, BYTES))
  const repository = await place.repository()
  await repository.backup(['.'], { cwd: source })
  let kills = 0, slowestMs = 0
  for (; goesOn(); kills++) {
    const mounted = await place.mount(repository, { dir, cacheDir })
    const guards = guardsOf(mounted.child.pid)
    const readers = 1 + Math.floor(random() * names.length), killAt = Math.floor(random() * readers * BYTES * 0.9)
    const what = `kill ${kills}: ${readers} readers, behind ${killAt} bytes`
    let killedAt = 0
    const { over } = await killWhileRead({
      files: names.slice(0, readers).map(name => mounted.latest(name)), killAt, exited: mounted.exited, dir,
      kill: () => { killedAt = performance.now(); mounted.child.kill('SIGKILL') },
    })
    slowestMs = Math.max(slowestMs, performance.now() - killedAt)
    if (!over) fail(what, ['the process or its readers hung'])
    await eventually('the guard ends', () => guards.every(isGone)).catch(error => fail(what, [String(error)]))
    if (kills % 20 === 19) {
      const again = await place.mount(repository, { dir, cacheDir })
      const name = names[Math.floor(random() * names.length)]!
      if (!readFileSync(again.latest(name)).equals(readFileSync(join(source, name)))) fail(what, [`${name} is wrong afterwards`])
      await again.unmount()
      say(`${kills + 1} kills, at most ${Math.round(slowestMs)} ms until all was over`)
    }
  }
  say(`${kills} kills, at most ${Math.round(slowestMs)} ms until all was over`)
})
