import { readdirSync } from 'node:fs'
import { ChangingSource, LiveRepository, randomOperation } from '../../test/fixtures/live.js'
import { newestRestic } from '../../test/fixtures/restic.js'
import { soak } from './soak.js'

// Snapshots come and go under a mount, for as long as you like, with readers at work all the while. test/mount/live.test.ts does a dozen steps of it.
process.env['TZ'] = 'UTC'
await soak('live', async ({ place, random, goesOn, say, fail }) => {
  const repository = await place.repository({ restic: newestRestic()! })
  const live = new LiveRepository(repository, new ChangingSource(place.path('source')))
  for (let n = 0; n < 4; n++) await live.add()
  const mounted = await place.mount(repository, { args: ['--poll', '0'] })
  live.watchLatest(mounted)
  let before = 'the start', told = ''
  for (let step = 1; goesOn(); step++) {
    const done = await randomOperation(live, random)
    await live.settle(mounted, () => readdirSync(mounted.dir))
    live.readBig(mounted, live.newest)
    const problems = live.problems.splice(0)
    if (problems.length > 0) fail(`step ${step}, ${done}, behind ${before}`, [...problems, ...mounted.output.split('\n').filter(line => line > told).slice(-20)])
    before = done
    told = new Date().toISOString()
    if (mounted.exit) {
      fail('the mount ended', [mounted.output])
      return
    }
    if (step % 20 === 0) say(`${step} steps, ${live.days.size} days, ${live.readCount} reads, ${mounted.peakMemoryKb()} kB at the peak`)
  }
  await live.stopReaders()
  if (live.problems.length > 0) fail('the last readers', live.problems)
})
