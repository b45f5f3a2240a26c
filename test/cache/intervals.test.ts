import t from 'tap'
import { Intervals } from '../../src/cache/disk/intervals.js'
import { random } from '../fixtures/bytes.js'

t.test('what is there and what is not, against a set of numbers', async t => {
  for (let seed = 1; seed <= 50; seed++) {
    const next = random(seed)
    const intervals = new Intervals()
    const model = new Set<number>()
    const any = () => Math.floor(next() * 60)
    for (let step = 0; step < 60; step++) {
      const from = any()
      const to = from + Math.floor(next() * 8)
      intervals.add(from, to)
      for (let i = from; i < to; i++) model.add(i)
      const askFrom = any()
      const askTo = askFrom + Math.floor(next() * 20)
      const missing: number[] = []
      for (let i = askFrom; i < askTo; i++) if (!model.has(i)) missing.push(i)
      const holes = intervals.holes(askFrom, askTo)
      const same = intervals.has(askFrom, askTo) === (missing.length === 0) &&
        holes.flatMap(([a, b]) => Array.from({ length: b - a }, (_, i) => a + i)).join() === missing.join() && holes.every(([a, b], i) => a < b && (i === 0 || holes[i - 1][1] < a))
      if (!same) return t.fail(`seed ${seed}, step ${step}: ${askFrom}-${askTo}: ${JSON.stringify(holes)}`)
    }
    let runs = 0
    for (const i of model) if (!model.has(i - 1)) runs++
    if (intervals.count !== runs) return t.fail(`seed ${seed}: ${intervals.count} stretches, ${runs} expected`)
  }
  t.pass('50 seeds')
})
