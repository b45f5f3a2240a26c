import t from 'tap'
import type { BlobLocation } from '../../src/index/index.js'
import { LOCAL_LIMITS, planReads, REMOTE_LIMITS } from '../../src/repository/fetch-plan.js'
import type { PlanLimits } from '../../src/repository/fetch-plan.js'
import { random } from '../fixtures/bytes.js'

const LIMITS: PlanLimits = { maxGap: 100, maxSurplus: Infinity, maxRange: 1000, maxPlain: 1_000_000, firstRange: 1000 }
const at = (pack: number, offset: number, length: number, plainLength = 0): BlobLocation => ({ pack, offset, length, plainLength })

t.test('reads of a plan', async t => {
  for (const { name, wanted, limits, reads } of [
    { name: 'nothing wanted', wanted: [], reads: [] },
    { name: 'a blob without a copy is in no read', wanted: [[], [at(1, 0, 50)]], reads: ['1:0+50 [1]'] },
    { name: 'neighbours in one read, by offset', wanted: [[at(1, 60, 40)], [at(1, 0, 60)]], reads: ['1:0+100 [1,0]'] },
    { name: 'a gap as long as allowed', wanted: [[at(1, 0, 50)], [at(1, 150, 50)]], reads: ['1:0+200 [0,1]'] },
    { name: 'a gap one byte longer', wanted: [[at(1, 0, 50)], [at(1, 151, 50)]], reads: ['1:0+50 [0]', '1:151+50 [1]'] },
    { name: 'a longer gap where most of the stretch is wanted', wanted: [[at(1, 0, 400)], [at(1, 501, 400)]], reads: ['1:0+901 [0,1]'] },
    {
      name: 'the shortest gaps, as long as all of them are a small share of what is wanted', limits: { ...LIMITS, maxSurplus: 1 / 4 },
      wanted: [[at(1, 0, 40)], [at(1, 90, 40)], [at(1, 140, 40)], [at(2, 0, 40)], [at(2, 70, 40)]], reads: ['1:0+40 [0]', '1:90+90 [1,2]', '2:0+110 [3,4]'],
    },
    {
      name: 'none of several equal gaps that are too much together', limits: { ...LIMITS, maxSurplus: 1 / 4 },
      wanted: [[at(1, 0, 40)], [at(1, 60, 40)], [at(1, 120, 40)], [at(1, 180, 40)]], reads: ['1:0+40 [0]', '1:60+40 [1]', '1:120+40 [2]', '1:180+40 [3]'],
    },
    { name: 'split at the longest range', wanted: [[at(1, 0, 400)], [at(1, 400, 400)], [at(1, 800, 201)]], reads: ['1:0+800 [0,1]', '1:800+201 [2]'] },
    { name: 'a single blob longer than the longest range', wanted: [[at(1, 0, 5000)], [at(1, 5000, 10)]], reads: ['1:0+5000 [0]', '1:5000+10 [1]'] },
    {
      name: 'split where the plaintext becomes too much', limits: { ...LIMITS, maxPlain: 700 },
      wanted: [[at(1, 0, 50, 300)], [at(1, 50, 50, 400)], [at(1, 100, 50, 1)]], reads: ['1:0+100 [0,1]', '1:100+50 [2]'],
    },
    {
      name: 'the first read is short, later ones twice as long each', limits: { ...LIMITS, firstRange: 200 },
      wanted: Array.from({ length: 18 }, (_, i) => [at(1, i * 100, 100)]),
      reads: ['1:0+200 [0,1]', '1:200+400 [2,3,4,5]', '1:600+800 [6,7,8,9,10,11,12,13]', '1:1400+400 [14,15,16,17]'],
    },
    { name: 'packs in the order of what was wanted first', wanted: [[at(7, 0, 10)], [at(3, 0, 10)], [at(7, 10, 10)]], reads: ['7:0+20 [0,2]', '3:0+10 [1]'] },
    { name: 'of two copies the first', wanted: [[at(2, 0, 10), at(1, 0, 10)]], reads: ['2:0+10 [0]'] },
    { name: 'of two copies the one beside another wanted blob', wanted: [[at(2, 0, 10), at(1, 20, 10)], [at(1, 0, 10)]], reads: ['1:0+30 [1,0]'] },
    { name: 'not one in the same pack but far away', wanted: [[at(2, 0, 10), at(1, 9000, 10)], [at(1, 0, 10)]], reads: ['2:0+10 [0]', '1:0+10 [1]'] },
    {
      name: 'copies gather in the pack that has most of them',
      wanted: [[at(1, 0, 10), at(9, 0, 10)], [at(2, 0, 10), at(9, 10, 10)], [at(3, 0, 10), at(9, 20, 10)]], reads: ['9:0+30 [0,1,2]'],
    },
    { name: 'entries of an index that overlap', wanted: [[at(1, 0, 100)], [at(1, 20, 30)]], reads: ['1:0+100 [0,1]'] },
    { name: 'twice in one pack', wanted: [[at(1, 0, 10), at(1, 500, 10)]], reads: ['1:0+10 [0]'] },
  ] as { name: string, wanted: BlobLocation[][], limits?: PlanLimits, reads: string[] }[]) {
    const plan = planReads(wanted, limits ?? LIMITS).map(({ pack, offset, length, members }) => `${pack}:${offset}+${length} [${members}]`)
    t.strictSame(plan, reads, name)
  }
})

t.test('what holds for every plan', async t => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)
  const next = random(seed)
  const below = (n: number) => Math.floor(next() * n)
  for (let round = 0; round < 2000; round++) {
    const limits = [LIMITS, LOCAL_LIMITS, REMOTE_LIMITS, { maxGap: below(300), maxSurplus: [0, next(), Infinity][below(3)], maxRange: 1 + below(3000), maxPlain: 1 + below(9000), firstRange: 1 + below(500) }][below(4)]
    const packs = 1 + below(4)
    const wanted = Array.from({ length: below(60) }, () => Array.from({ length: [0, 1, 1, 1, 2, 3][below(6)] }, () =>
      at(below(packs), below(20) * 100 + below(2) * 5000, 32 + below(120), below(2) * below(400))))
    const reads = planReads(wanted, limits)

    const seen = reads.flatMap(({ members }) => members).sort((a, b) => a - b)
    const broken = []
    if (String(seen) !== String([...wanted.keys()].filter(i => wanted[i].length > 0))) broken.push('each blob with a copy is in exactly one read')
    for (const { pack, offset, length, members, locations } of reads) {
      if (members.length === 0 || members.length !== locations.length) broken.push('members and their copies')
      if (locations.some((location, i) => !wanted[members[i]].includes(location) || location.pack !== pack)) broken.push('a copy of the blob in this pack')
      if (locations.some(location => location.offset < offset || location.offset + location.length > offset + length)) broken.push('the copy lies in the range')
      if (locations.some((location, i) => i > 0 && location.offset < locations[i - 1].offset)) broken.push('by offset')
      if (members.length > 1 && length > limits.maxRange) broken.push('no longer than allowed')
      if (offset !== locations[0].offset || !locations.some(location => location.offset + location.length === offset + length)) broken.push('no byte too many at the ends')
    }
    const firsts = reads.map(({ members }) => Math.min(...members))
    if (firsts.some((first, i) => i > 0 && first < firsts[i - 1])) broken.push('in the order of what was wanted first')
    if (broken.length > 0) return t.fail(`seed ${seed} round ${round}: ${broken}`)
  }
  t.pass(`seed ${seed}`)
})
