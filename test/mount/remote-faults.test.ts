import t from 'tap'
import { cacheTrial } from '../fixtures/cache-faults.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { hasRclone } from '../fixtures/rclone.js'
import { FaultBench, type TrialSettings } from '../fixtures/remote-faults.js'
import { seeded } from '../fixtures/seeded.js'
import { tier } from '../fixtures/tiers.js'

// A real server behind a link that goes wrong, and a real copy: what passes is not noticed, what lasts costs what cannot be had and nothing else, and with a
// replica nothing is lost. The same for a disk cache that is treated badly. Many more points of each: scripts/soak/remote-faults and cache-faults.
t.setTimeout(600_000)

const [alone, passing, lasting] = [{ replica: false }, { lasts: 'passing' }, { lasts: 'lasting' }] as const
const TRIALS: TrialSettings[] = [
  { fault: 'connection reset', ...passing, ...alone },
  { fault: 'stall', ...passing, ...alone },
  { fault: '5xx', ...lasting, ...alone },
  { fault: 'short body', ...passing, ...alone },
  { fault: 'wrong bytes', ...passing, ...alone },
  { fault: 'wrong bytes', ...lasting, ...alone },
  { fault: 'slow link', ...passing, ...alone },
  { fault: 'server restart', ...passing, ...alone },
  { fault: 'credentials revoked', ...lasting, ...alone },
  { fault: 'pack removed', ...lasting, ...alone },
  { fault: 'pack pruned', ...passing, ...alone },
  ...(['credentials revoked', 'wrong bytes', 'pack removed'] as const).map(fault => ({ fault, ...lasting, replica: true })),
]

if (mountTier(t) && tier(t, 'rclone', hasRclone() || 'no rclone')) {
  const place = new MountCase(t, 'remote-faults')
  const { seed, random } = seeded()
  t.comment(`SEED=${seed}`)
  await t.test('a remote that goes wrong', async t => {
    const bench = await FaultBench.make(place, { folders: 6 })
    t.teardown(() => bench.stop())
    for (const settings of TRIALS) {
      const { what, points, problems, failed, peakKb } = await bench.trial(settings, random)
      t.same(problems, [], `${what}: ${points} points, ${failed} entries not to be had, ${peakKb} kB at the peak`)
    }
    // disk-cache.test.ts has the others
    for (const fault of ['small disk', 'shared'] as const) {
      const { what, points, problems, peakKb } = await cacheTrial(bench, fault, random, fault.replace(' ', '-'))
      t.same(problems, [], `${what}: ${points} points, ${peakKb} kB at the peak`)
    }
  })
}
