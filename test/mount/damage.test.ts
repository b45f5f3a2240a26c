import t from 'tap'
import { DamageBench, FORMS, KINDS } from '../fixtures/damage.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { findRestics } from '../fixtures/restic.js'
import { seeded } from '../fixtures/seeded.js'

// Wrong bytes are never shown. Whatever is damaged in a repository: each file is right or EIO, whatever the damage does not reach is right, and
// where another copy of the data is left, all is right. A longer run with other positions: scripts/soak/damage.
t.setTimeout(600_000)

if (mountTier(t)) {
  const place = new MountCase(t, 'dd')
  const { seed, random } = seeded()
  t.comment(`SEED=${seed}`)
  const restics = findRestics()

  await t.test('one copy of everything', async t => {
    const bench = await DamageBench.make(place, restics.at(-1)!, { twice: false })
    for (const form of FORMS) {
      for (const kind of KINDS) {
        const { damage, problems, right, failed, refused } = await bench.trial(form, kind, random)
        t.same(problems, [], `${damage}: ${refused ? `refused, ${refused.code}, ${refused.message.trim()}` : `${right} right, ${failed} not`}`)
        // a mount that is up needs its config no more
        if (form === 'config' && !damage.startsWith('under the mount')) t.equal(refused?.code, kind === 'delete' ? 10 : 1, 'exit code')
        if (form === 'key' && refused) t.equal(refused.code, 1, 'not taken for a wrong password')
      }
    }
  })

  await t.test('two copies of everything', async t => {
    const bench = await DamageBench.make(place, restics[0]!, { twice: true })
    for (const form of ['data pack', 'tree pack', 'index', 'one generation'] as const) {
      for (const kind of ['flip a bit', 'truncate', 'delete'] as const) {
        const { damage, problems, failed } = await bench.trial(form, kind, random)
        t.same(problems, [], damage)
        t.equal(failed, 0, `${damage}: nothing is lost`)
      }
    }
  })
}
