import { DamageBench, FORMS, KINDS } from '../../test/fixtures/damage.js'
import { findRestics } from '../../test/fixtures/restic.js'
import { soak } from './soak.js'

// Never wrong, for as long as you like: damage of every kind to every stored form, at random positions, in repositories of every restic here, in both
// formats, with one copy of the data and with two. test/mount/damage.test.ts does a sample of it.
await soak('damage', async ({ place, random, goesOn, say, fail }) => {
  const benches: { name: string, bench: DamageBench, twice: boolean }[] = []
  for (const restic of findRestics()) {
    for (const format of [1, 2] as const) {
      for (const twice of [false, true]) {
        const name = `restic ${restic.version}, format ${format}, ${twice ? 'two copies' : 'one copy'}`
        benches.push({ name, twice, bench: await DamageBench.make(place, restic, { twice, format, name: `${restic.series}-${format}-${twice}` }) })
        say(`made: ${name}`)
      }
    }
  }
  let trials = 0, refused = 0, right = 0, failed = 0
  for (; goesOn(); trials++) {
    const { name, bench, twice } = benches[Math.floor(random() * benches.length)]!
    const forms = twice ? [...FORMS, 'one generation'] as const : FORMS
    const form = forms[Math.floor(random() * forms.length)]!, kind = KINDS[Math.floor(random() * KINDS.length)]!
    const trial = await bench.trial(form, kind, random)
    if (trial.problems.length > 0) fail(`${name}: ${form}, ${trial.damage}`, trial.problems)
    if (twice && trial.failed > 0 && form !== 'snapshot') fail(`${name}: ${form}, ${trial.damage}`, [`${trial.failed} entries lost, though there is another copy`])
    if (trial.refused) refused++
    right += trial.right ?? 0
    failed += trial.failed
    if (trials % 100 === 99) say(`${trials + 1} damages: ${right} entries right, ${failed} not to be had, ${refused} repositories refused`)
  }
  say(`${trials} damages: ${right} entries right, ${failed} not to be had, ${refused} repositories refused`)
})
