import t from 'tap'
import { FORMS } from '../../scripts/fuzz/forms.js'
import { fuzzForm } from '../../scripts/fuzz/fuzz-forms.js'
import { seeded } from '../fixtures/seeded.js'

// A sample of what scripts/fuzz/decoders.ts does 10,000 times.
const MUTATIONS = 500

for (const form of FORMS) {
  const { seed, random } = seeded()
  t.test(`${form.name}: ${MUTATIONS} mutations are read rightly or refused (SEED=${seed})`, async t => {
    for (const original of form.corpus) t.equal(await form.judge(original, original), 'read', 'what is whole is read')
    const { read, refused } = await fuzzForm(form, MUTATIONS, seed, random)
    t.equal(read + refused, MUTATIONS)
    t.ok(refused > 0)
  })
}
