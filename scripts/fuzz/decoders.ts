/**
 * Random mutations of every stored form against its decoder: a right result or a typed error, never a crash, a hang or a wrong value.
 * node dist/scripts/fuzz/decoders.js [mutations of each form] [seed]
 */
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { FORMS } from './forms.js'
import { fuzzForm } from './fuzz-forms.js'
import { randomFrom } from './random.js'

const { positionals } = parseArgs({ allowPositionals: true })
const mutations = Number(positionals[0] ?? 10_000)
const seed = Number(positionals[1] ?? randomInt(2 ** 32))
console.log(`seed ${seed}, ${mutations} mutations of each form`)
for (const form of FORMS) {
  const { read, refused, slowestMs } = await fuzzForm(form, mutations, seed, randomFrom(seed))
  console.log(`${form.name.padEnd(20)} ${String(read).padStart(6)} read ${String(refused).padStart(6)} refused, slowest ${slowestMs.toFixed(1)} ms`)
}
const { rss } = process.memoryUsage()
console.log(`resident ${Math.round(rss / 2 ** 20)} MiB`)
