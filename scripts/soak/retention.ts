import { applyPolicy } from '../../src/retention/policy.js'
import { modelKeeps } from '../../test/fixtures/policy-model.js'
import { seeded } from '../../test/fixtures/seeded.js'
import { randomHistory, randomPolicy, ZONES } from '../../test/fixtures/snapshot-history.js'

/** `node dist/scripts/soak/retention.js [HISTORIES]`: policies over random histories (10,000) against the brute-force model, with $SEED to repeat a run. */
const histories = Number(process.argv[2] ?? 10_000)
const { seed, random } = seeded()
const now = Date.UTC(2026, 10, 20, 12)
let snapshots = 0
let removed = 0
let failures = 0
for (let i = 0; i < histories; i++) {
  process.env.TZ = ZONES[i % ZONES.length]
  const history = randomHistory(random, 1 + Math.floor(random() * 200), now)
  const policy = randomPolicy(random)
  const { keep, remove } = applyPolicy(history, policy, now)
  const sorted = (ids: Iterable<number>) => JSON.stringify([...ids].sort((a, b) => a - b))
  const ours = sorted(keep.map(({ snapshot }) => snapshot.id))
  snapshots += history.length
  removed += remove.length
  if (modelKeeps(history, policy, now).some(model => sorted(model) === ours)) continue
  failures++
  console.log(`FAILED history ${i} in ${process.env.TZ}: ${JSON.stringify(policy)}`)
}
console.log(`SEED=${seed}: ${histories} histories, ${snapshots} snapshots, ${removed} removed, ${failures} failures`)
process.exitCode = failures === 0 ? 0 : 1
