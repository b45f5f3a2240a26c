import { CACHE_FAULTS, cacheTrial } from '../../test/fixtures/cache-faults.js'
import { FaultBench } from '../../test/fixtures/remote-faults.js'
import { soak } from './soak.js'

/*
 * A disk cache that is full, deleted, shared, and written to by processes that are killed, at $POINTS points of each kind (1000): what is copied is right.
 * $FAULTS (comma-separated) picks some of the kinds. test/mount/remote-faults.test.ts does a sample of it.
 */
await soak('cache-faults', async ({ place, random, goesOn, say, fail }) => {
  const names = process.env['FAULTS']?.split(',')
  const faults = CACHE_FAULTS.filter(fault => names?.includes(fault) ?? true)
  const wanted = Number(process.env['POINTS'] ?? 1000)
  say('making the repository')
  const bench = await FaultBench.make(place, { folders: 32 })
  try {
    for (const fault of faults) {
      let points = 0, trials = 0, peak = 0
      const line = () => say(`${fault}: ${points} points, ${trials} trials, ${peak} kB at the peak`)
      for (let said = Date.now(); goesOn() && points < wanted;) {
        const { what, points: more, problems, peakKb } = await cacheTrial(bench, fault, random, `${fault.replace(' ', '-')}-${trials++}`)
        if (problems.length > 0) fail(what, problems)
        points += more
        peak = Math.max(peak, peakKb)
        if (Date.now() - said < 15_000) continue
        line()
        said = Date.now()
      }
      line()
      if (points < wanted) fail(fault, ['the time was over before all points were done'])
    }
  } finally {
    await bench.stop()
  }
})
