import { lackOfCeph } from '../../test/fixtures/ceph.js'
import { FaultBench, FAULTS, S3_FAULTS, type RemoteFault } from '../../test/fixtures/remote-faults.js'
import { soak } from './soak.js'

/*
 * A remote that goes wrong while somebody copies from it, in every way it can, at $POINTS points of each kind (1000), every second copy with a replica besides: nothing is ever wrong, what passes is not noticed,
 * what lasts costs what cannot be had and nothing else, with a replica nothing is lost. test/mount/remote-faults.test.ts does a sample of it.
 * $FAULTS (comma-separated) picks some of the kinds, $SERVER=s3 takes a Ceph gateway for `rclone serve restic`.
 */
await soak('remote-faults', async ({ place, random, goesOn, say, fail }) => {
  const server = process.env['SERVER'] === 's3' ? 's3' : 'rest'
  if (server === 's3' && lackOfCeph() !== null) throw new Error(lackOfCeph()!)
  const possible = server === 's3' ? S3_FAULTS : FAULTS
  const faults = process.env['FAULTS']?.split(',').map(name => possible.find(fault => fault === name) ?? fault_(name)) ?? possible
  const wanted = Number(process.env['POINTS'] ?? 1000)
  say('making the repository')
  const bench = await FaultBench.make(place, { folders: 32, server })
  const tallies = new Map(faults.map(fault => [fault, { points: 0, replicaPoints: 0, trials: 0, failed: 0, peakKb: 0 }]))
  const line = (fault: RemoteFault) => {
    const { points, replicaPoints, trials, failed, peakKb } = tallies.get(fault)!
    return `${fault}: ${points} points, ${replicaPoints} with a replica, ${trials} copies, ${failed} entries not to be had, ${peakKb} kB at the peak`
  }
  try {
    for (const fault of faults) {
      const tally = tallies.get(fault)!
      for (let said = Date.now(); goesOn() && tally.points < wanted; tally.trials++) {
        const replica = tally.trials % 2 === 1
        const settings = { fault, replica, lasts: random() < 0.25 ? 'lasting' : 'passing' } as const
        const { what, points, problems, failed, peakKb } = await bench.trial(settings, random)
        if (problems.length > 0) fail(what, problems)
        if (replica) tally.replicaPoints += points
        else tally.points += points
        tally.failed += failed
        tally.peakKb = Math.max(tally.peakKb, peakKb)
        if (Date.now() - said < 15_000) continue
        say(line(fault))
        said = Date.now()
      }
      say(line(fault))
    }
    for (const [fault, { points }] of tallies) if (points < wanted) fail(fault, ['the time was over before all points were done'])
  } finally {
    await bench.stop()
  }
})

function fault_(name: string): never { throw new Error(`no such fault: ${name}; there are ${FAULTS.join(', ')}`) }
