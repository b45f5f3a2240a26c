import t from 'tap'
import type { Test } from 'tap'
import { CorruptError, DaybookError } from '../../src/errors.js'
import type { NativeBlob } from '../../src/native.js'
import { BlobLoader } from '../../src/repository/blob-loader.js'
import type { BlobLoaderOptions } from '../../src/repository/blob-loader.js'
import { silentLogger } from '../../src/util/log.js'
import { random, randomBytes } from '../fixtures/bytes.js'
import { FakeBlob, FakePacks, idOf } from '../fixtures/fake-packs.js'

const turn = () => new Promise(setImmediate)

function makeLoader(packs: FakePacks, options: Partial<BlobLoaderOptions> = {}): BlobLoader {
  const { backend, index, codec, refresh } = packs
  return new BlobLoader({ backend, index, native: codec, refresh, keys: Buffer.alloc(64), log: silentLogger, ...options })
}

/** Fetch, and say for each what came: its bytes, or the error's code. */
function fetchAll(loader: BlobLoader, ids: readonly Uint8Array[], priority: 'demand' | 'ahead' = 'demand'): Promise<(Buffer | string)[]> {
  return new Promise(resolve => {
    const answers: (Buffer | string)[] = []
    let missing = ids.length
    loader.fetch(ids, priority, (i, blob) => {
      if (i in answers) throw new Error(`answered twice: ${i}`)
      answers[i] = blob instanceof Error ? (blob as DaybookError).code : Buffer.from(blob.bytes())
      if (--missing === 0) resolve(answers)
    })
  })
}

const plains = (name: string, count: number, length = 1000) => Array.from({ length: count }, (_, i) => randomBytes(`${name} ${i}`, length))
const ids = (blobs: readonly Uint8Array[]) => blobs.map(idOf)

/** A test at whose end every blob must have been freed. */
function claim(name: string, body: (t: Test) => Promise<void>): void {
  t.test(name, { timeout: 120_000 }, async t => {
    await body(t)
    await turn()
    await turn()
    t.equal(FakeBlob.live, 0, 'every blob was freed')
  })
}

claim('neighbours come with one read and one decoding, in whatever order they are wanted', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const blobs = plains('a', 20)
  packs.add(blobs)
  const wanted = [7, 3, 19, 0, 4].map(i => blobs[i])
  t.strictSame(await fetchAll(loader, ids(wanted)), wanted)
  t.equal(packs.backend.reads.length, 1)
  t.equal(packs.codec.calls, 1)
  t.equal(packs.codec.blobs, 5, 'only what is wanted is decoded')
  loader.close()
})

claim('what several callers want in one turn is planned together', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const blobs = plains('a', 10)
  packs.add(blobs)
  const answers = await Promise.all(blobs.map(blob => fetchAll(loader, [idOf(blob)])))
  t.strictSame(answers.flat(), blobs)
  t.equal(packs.backend.reads.length, 1)
  loader.close()
})

claim('a blob wanted by several is fetched once, and found in memory afterwards', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const [blob] = plains('a', 1)
  packs.add([blob])
  const id = idOf(blob)
  t.equal(loader.peek(id), null)
  const answers = await Promise.all([fetchAll(loader, [id, id]), fetchAll(loader, [id], 'ahead'), turn().then(() => fetchAll(loader, [id]))])
  t.strictSame(answers.flat(), [blob, blob, blob, blob])
  t.equal(packs.backend.reads.length, 1)
  t.strictSame(loader.peek(id)?.bytes(), blob)
  let answered = false
  loader.fetch([id], 'demand', () => { answered = true })
  t.ok(answered, 'at once')
  loader.drop(id)
  t.equal(loader.peek(id), null)
  loader.close()
})

claim('length is the index\'s', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const blobs = plains('a', 2, 777)
  packs.add(blobs.slice(0, 1))
  packs.add(blobs.slice(1), { compressed: true })
  t.equal(loader.length(idOf(blobs[0])), 777)
  t.equal(loader.length(idOf(blobs[1])), 777)
  t.equal(loader.length(Buffer.alloc(32)), -1)
  packs.locates = 0
  for (let i = 0; i < 100; i++) loader.length(idOf(blobs[0]))
  t.equal(packs.locates, 0, 'remembered')
  t.equal(packs.backend.reads.length, 0)
  loader.close()
})

claim('one damaged pack', async t => {
  const flip = (at: number) => (bytes: Buffer) => {
    bytes[at] ^= 1
    return bytes
  }
  const blobs = plains('a', 16)
  const stored = 1032
  for (const { name, change, lost, code = 'ERR_CORRUPT' } of [
    { name: 'a flipped byte', change: flip(5 * stored + 500), lost: [5] },
    { name: 'a flipped byte of a MAC', change: flip(6 * stored - 1), lost: [5] },
    { name: 'a missing byte', change: bytes => Buffer.concat([bytes.subarray(0, 8 * stored), bytes.subarray(8 * stored + 1)]), lost: [8, 9, 10, 11, 12, 13, 14, 15] },
    { name: 'a surplus byte', change: bytes => Buffer.concat([bytes.subarray(0, 15 * stored), Buffer.alloc(1), bytes.subarray(15 * stored)]), lost: [15] },
    { name: 'cut in the middle of a blob', change: bytes => bytes.subarray(0, 10 * stored + 7), lost: [10, 11, 12, 13, 14, 15] },
    { name: 'cut by one byte', change: bytes => bytes.subarray(0, -1), lost: [15] },
    { name: 'empty', change: () => Buffer.alloc(0), lost: [...blobs.keys()] },
  ] as { name: string, change: (bytes: Buffer) => Buffer, lost: number[], code?: string }[]) {
    for (const priority of ['demand', 'ahead'] as const) {
      const packs = new FakePacks()
      const loader = makeLoader(packs)
      const pack = packs.add(blobs)
      packs.damage(pack, change)
      t.strictSame(await fetchAll(loader, ids(blobs), priority), blobs.map((blob, i) => lost.includes(i) ? code : blob), `${name}, ${priority}`)
      t.equal(packs.refreshes, 1, 'the repository was looked at once')
      t.strictSame(loader.stats(), { ...loader.stats(), wanted: 0, inFlightBytes: 0, aheadBytes: 0 })
      loader.close()
    }
  }
})

claim('bytes of another blob are not taken for the wanted one', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const [wanted, other] = plains('a', 2)
  const pack = packs.add([wanted])
  const elsewhere = packs.add([other])
  packs.damage(pack, () => elsewhere.bytes)
  t.strictSame(await fetchAll(loader, [idOf(wanted)]), ['ERR_CORRUPT'])
  loader.close()
})

claim('what proves wrong is read again from each further source of the same bytes, and only then from another copy', async t => {
  // three sources, and once more behind a new look at the repository
  for (const wrong of [1, 2, 6]) {
    const packs = new FakePacks()
    const loader = makeLoader(packs, { backend: Object.assign(packs.backend, { sources: 3 }) })
    const blobs = plains('a', 3)
    packs.add(blobs)
    const again: (number | undefined)[] = []
    packs.backend.intercept = async ({ offset, length }, _signal, options) => {
      if (offset !== 0) return
      again.push(options?.again)
      if (again.length <= wrong) return Buffer.alloc(length, 1)
    }
    const [first, second] = await fetchAll(loader, ids(blobs.slice(0, 2)))
    t.strictSame(first, wrong < 6 ? blobs[0] : 'ERR_CORRUPT')
    t.strictSame(second, blobs[1])
    t.strictSame(again, [0, 1, 2, 0, 1, 2].slice(0, wrong + 1))
    loader.close()
  }
})

claim('an error says what and where', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const [blob] = plains('a', 1)
  const pack = packs.add([blob])
  packs.damage(pack, bytes => bytes.fill(7))
  const error = await new Promise<NativeBlob | Error>(resolve => loader.fetch([idOf(blob)], 'demand', (_, blob) => resolve(blob)))
  t.match(error, { code: 'ERR_CORRUPT', file: `blob ${idOf(blob).toString('hex')}`, reason: new RegExp(`MAC does not fit.*${pack.name}`) })
  loader.close()
})

claim('another copy is taken', async t => {
  const blobs = plains('a', 8)
  for (const { name, spoil } of [
    { name: 'when bytes are wrong', spoil: (packs: FakePacks) => packs.damage(packs.packs[0], bytes => bytes.fill(9, 2000, 3000)) },
    { name: 'when the pack is gone', spoil: (packs: FakePacks) => packs.remove(packs.packs[0]) },
    { name: 'when the pack is cut short', spoil: (packs: FakePacks) => packs.damage(packs.packs[0], bytes => bytes.subarray(0, 3000)) },
    {
      name: 'when the disk has a bad sector', spoil: (packs: FakePacks) => {
        packs.backend.intercept = async ({ pack, offset }) => {
          const cause = Object.assign(new Error('EIO'), { code: 'EIO' })
          if (pack === packs.packs[0].name && offset < 3000) throw new DaybookError('ERR_UNREACHABLE', 'cannot read', undefined, { cause })
        }
      },
    },
  ]) {
    const packs = new FakePacks()
    const warnings: string[] = []
    const loader = makeLoader(packs, { log: { ...silentLogger, warn: message => { warnings.push(message) } } })
    packs.add(blobs)
    packs.add([...blobs].reverse())
    spoil(packs)
    t.strictSame(await fetchAll(loader, ids(blobs)), blobs, name)
    t.equal(packs.refreshes, 0)
    t.ok(warnings.length > 0, 'and the log has it')
    loader.close()
  }
})

claim('a blob that moved is found by a new look at the repository', async t => {
  const blobs = plains('a', 8)
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const old = packs.add(blobs)
  const moved = packs.add(blobs, { gap: 10, listed: false })
  t.equal(loader.length(idOf(blobs[0])), 1000, 'its old place is remembered')
  packs.remove(old)
  packs.onRefresh = () => {
    old.listed = false
    return moved.listed = true
  }
  t.strictSame(await fetchAll(loader, ids(blobs)), blobs)
  t.equal(packs.refreshes, 1)
  t.equal(packs.backend.reads.length, 2)
  loader.close()
})

claim('an unknown blob: one look for all who ask', async t => {
  const blobs = plains('a', 4)
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const late = packs.add(blobs.slice(0, 2), { listed: false })
  packs.onRefresh = () => late.listed = true
  t.strictSame(await fetchAll(loader, ids(blobs)), [blobs[0], blobs[1], 'ERR_NOT_FOUND', 'ERR_NOT_FOUND'])
  t.equal(packs.refreshes, 1)
  loader.close()
})

claim('what fails while the repository is being looked at waits for another look', async t => {
  const blobs = plains('a', 2)
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const late = packs.add(blobs, { listed: false })
  let second: Promise<(Buffer | string)[]> | undefined
  packs.onRefresh = async () => {
    // Listed before the pack was there; then somebody asks.
    second ??= fetchAll(loader, [idOf(blobs[1])])
    if (packs.refreshes === 2) late.listed = true
    return true
  }
  t.strictSame(await fetchAll(loader, [idOf(blobs[0])]), ['ERR_NOT_FOUND'])
  t.strictSame(await second, [blobs[1]])
  t.equal(packs.refreshes, 2)
  loader.close()
})

claim('an unreachable repository fails the read at once, and a later one may succeed', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const blobs = plains('a', 3)
  packs.add(blobs)
  packs.backend.intercept = async () => { throw new DaybookError('ERR_UNREACHABLE', 'no route') }
  t.strictSame(await fetchAll(loader, ids(blobs)), ['ERR_UNREACHABLE', 'ERR_UNREACHABLE', 'ERR_UNREACHABLE'])
  t.equal(packs.backend.reads.length, 1)
  packs.backend.intercept = async () => {}
  t.strictSame(await fetchAll(loader, ids(blobs)), blobs)
  loader.close()
})

claim('lengths nobody can mean are not read', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const [blob] = plains('a', 1)
  const pack = packs.add([blob])
  for (const wrong of [{ length: 2 ** 40 }, { length: 5 }, { offset: -1 }, { plainLength: 2 ** 40 }, { offset: 2 ** 60 }]) {
    pack.blobs[0] = { ...pack.blobs[0], ...wrong }
    t.equal(loader.length(idOf(blob)), -1)
    t.strictSame(await fetchAll(loader, [idOf(blob)]), ['ERR_NOT_FOUND'])
    pack.blobs[0] = packs.packs[0].blobs[0] = { ...pack.blobs[0], offset: 0, length: 1032, plainLength: 0 }
  }
  t.equal(packs.backend.reads.length, 0)
  loader.close()
})

claim('demand overtakes read-ahead', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { inFlightBytes: 4096, plan: { maxGap: 0, maxSurplus: Infinity, maxRange: 2064, maxPlain: 1 << 20, firstRange: 1032 } })
  const blobs = plains('a', 12)
  packs.add(blobs)
  packs.backend.intercept = async () => { await turn() }
  const order: number[] = []
  let ended!: () => void
  const done = new Promise<void>(resolve => { ended = resolve })
  loader.fetch(ids(blobs), 'ahead', i => {
    order.push(i)
    if (order.length === 12) ended()
  })
  await turn()
  // 9 is the first half of a planned read, of which the rest stays where it was
  loader.fetch([idOf(blobs[9])], 'demand', () => order.push(109))
  await done
  await turn()
  t.ok(order.indexOf(9) < order.indexOf(7), `order ${order}`)
  t.equal(order.indexOf(109), order.indexOf(9) + 1, 'both who wait are answered by the same decoding')
  t.equal(packs.codec.blobs, 12)
  loader.close()
})

claim('read-ahead beyond its budget is refused, demand is not', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { aheadBytes: 5000 })
  const blobs = plains('a', 8)
  packs.add(blobs)
  t.equal(loader.aheadBudget, 5000)
  const [ahead, demand] = await Promise.all([fetchAll(loader, ids(blobs), 'ahead'), fetchAll(loader, ids(blobs.slice(6)))])
  t.strictSame(ahead, [...blobs.slice(0, 5), 'ERR_ABORTED', 'ERR_ABORTED', 'ERR_ABORTED'])
  t.strictSame(demand, blobs.slice(6))
  t.strictSame(await fetchAll(loader, ids(blobs.slice(5, 6)), 'ahead'), blobs.slice(5, 6), 'the budget is free again')
  loader.close()
})

claim('bytes in flight are bounded', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { inFlightBytes: 10_000, plan: { maxGap: 0, maxSurplus: Infinity, maxRange: 1032, maxPlain: 1 << 20, firstRange: 1032 } })
  const blobs = plains('a', 50)
  packs.add(blobs)
  let most = 0
  packs.backend.intercept = async () => { most = Math.max(most, loader.stats().inFlightBytes) }
  packs.codec.gate = turn
  t.strictSame(await fetchAll(loader, ids(blobs)), blobs)
  t.ok(most <= 10_000 && most > 5000, `${most} bytes`)
  t.ok(packs.backend.mostAtOnce <= packs.backend.connections)
  loader.close()
})

claim('memory holds what was used last, and frees the rest in the next turn', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { cacheBytes: 3 * 1256 })
  const blobs = plains('a', 6)
  packs.add(blobs)
  const given: NativeBlob[] = []
  await new Promise<void>(resolve => loader.fetch(ids(blobs), 'demand', (_, blob) => {
    given.push(blob as NativeBlob)
    if (given.length === 6) {
      t.strictSame(given.map(blob => blob.bytes()), blobs, 'all are valid in the turn in which they were given')
      resolve()
    }
  }))
  t.strictSame(blobs.map(blob => loader.peek(idOf(blob)) !== null), [false, false, false, true, true, true])
  await turn()
  t.equal(FakeBlob.live, 3)
  t.ok(loader.stats().cachedBytes <= 3 * 1256)
  loader.close()
})

claim('a blob larger than the memory is given out all the same', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs, { cacheBytes: 500, inFlightBytes: 100 })
  const blobs = plains('a', 3)
  packs.add(blobs)
  t.strictSame(await fetchAll(loader, ids(blobs)), blobs)
  loader.close()
})

claim('a reader that throws does not cost the others their answers', async t => {
  const packs = new FakePacks()
  const errors: unknown[] = []
  const loader = makeLoader(packs, { log: { ...silentLogger, error: message => { errors.push(message) } } })
  const blobs = plains('a', 3)
  packs.add(blobs)
  loader.fetch([idOf(blobs[0])], 'demand', () => { throw new Error('reader') })
  t.strictSame(await fetchAll(loader, ids(blobs)), blobs)
  t.equal(errors.length, 1)
  loader.close()
})

claim('closing answers everything with ERR_ABORTED, once', async t => {
  const blobs = plains('a', 6)
  const plan = { maxGap: 0, maxSurplus: Infinity, maxRange: 2064, maxPlain: 1 << 20, firstRange: 2064 }
  for (const { name, until, close } of [
    { name: 'before anything was planned', until: async () => {} },
    { name: 'while reading', until: async (packs: FakePacks) => {
      packs.backend.intercept = (_, signal) => new Promise((_, reject) => signal!.addEventListener('abort', () => reject(new Error('aborted'))))
      await turn()
      await turn()
    } },
    { name: 'while decoding', until: async (packs: FakePacks) => {
      packs.codec.gate = async () => { for (let i = 0; i < 20; i++) await turn() }
      for (let i = 0; i < 6; i++) await turn()
      t.ok(packs.codec.calls > 0)
    } },
    { name: 'by a signal', until: async () => {}, close: true },
  ] as { name: string, until: (packs: FakePacks) => Promise<void>, close?: true }[]) {
    const packs = new FakePacks()
    const abort = new AbortController()
    const loader = makeLoader(packs, { plan, signal: abort.signal })
    packs.add(blobs)
    const unknown = idOf(Buffer.from('unknown'))
    const answers = fetchAll(loader, [...ids(blobs), unknown])
    await until(packs)
    if (close) abort.abort()
    else loader.close()
    loader.close()
    t.strictSame((await answers).slice(0, 6), Array(6).fill('ERR_ABORTED'), name)
    t.strictSame(await fetchAll(loader, ids(blobs)), Array(6).fill('ERR_ABORTED'), 'also what is asked afterwards')
    await t.rejects(loader.refresh(), { code: 'ERR_ABORTED' })
    for (let i = 0; i < 25; i++) await turn()
  }
})

claim('a reader may close the loader', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  const blobs = plains('a', 4)
  packs.add(blobs)
  const answers: string[] = []
  await new Promise<void>(resolve => loader.fetch(ids(blobs), 'demand', (i, blob) => {
    answers.push(`${i} ${blob instanceof Error ? (blob as DaybookError).code : 'blob'}`)
    if (i === 1) loader.close()
    if (answers.length === 4) resolve()
  }))
  t.strictSame(answers, ['0 blob', '1 blob', '2 ERR_ABORTED', '3 ERR_ABORTED'])
})

claim('refresh is shared', async t => {
  const packs = new FakePacks()
  const loader = makeLoader(packs)
  packs.onRefresh = () => true
  let later: Promise<boolean>[] = []
  packs.onRefresh = () => {
    if (packs.refreshes === 1) later = [loader.refresh(), loader.refresh()]
    return true
  }
  t.strictSame(await Promise.all([loader.refresh(), loader.refresh()]), [true, true])
  t.equal(packs.refreshes, 1, 'by all who ask in one turn')
  t.strictSame(await Promise.all(later), [true, true])
  t.equal(packs.refreshes, 2, 'and by those who ask while one is under way: they get the next')
  loader.close()
})

claim('10,000 random steps over a faulty repository', async t => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)
  const next = random(seed)
  const below = (n: number) => Math.floor(next() * n)
  const packs = new FakePacks()
  const blobs = Array.from({ length: 400 }, (_, i) => randomBytes(`model ${i}`, below(10) === 0 ? 20_000 + below(20_000) : 1 + below(3000)))
  const all = ids(blobs)
  // Blobs 0..299 have a good copy somewhere; 300..349 only damaged ones; 350..399 are in no pack.
  const good = new Set<number>()
  for (let p = 0; p < 12; p++) {
    const members = Array.from({ length: 60 }, () => below(350))
    const pack = packs.add(members.map(i => blobs[i]), { gap: below(2) * below(200), compressed: below(2) === 0 })
    const bad = new Set(members.filter(i => i >= 300))
    packs.damage(pack, bytes => {
      pack.blobs.forEach(({ offset, length }, at) => {
        if (bad.has(members[at]) || (p % 3 === 0 && below(8) === 0)) bytes[offset + below(length - 16) + 16] ^= 1 << below(8)
        else good.add(members[at])
      })
      return pack.bytes = bytes
    })
  }
  packs.add([...Array(300).keys()].filter(i => !good.has(i)).map(i => blobs[i]))

  let passing = false
  packs.backend.intercept = async () => {
    for (let n = below(4); n > 0; n--) await turn()
    // Faults that pass: they may cost an answer, never a wrong one.
    if (below(200) === 0) {
      passing = true
      throw new DaybookError('ERR_UNREACHABLE', 'injected')
    }
    if (below(100) === 0) throw new CorruptError('pack', 'injected')
    if (below(100) === 0) throw new Error('injected')
    if (below(100) === 0) return Buffer.alloc(below(3))
  }
  packs.codec.gate = async () => { for (let n = below(3); n > 0; n--) await turn() }
  packs.onRefresh = async () => {
    if (below(10) === 0) throw new DaybookError('ERR_UNREACHABLE', 'injected')
    return below(2) === 0
  }

  const makeOne = () => makeLoader(packs, { cacheBytes: 200_000, inFlightBytes: 150_000, aheadBytes: 100_000, plan: { maxGap: 500, maxSurplus: Infinity, maxRange: 40_000, maxPlain: 60_000, firstRange: 8000 } })
  let loader = makeOne()
  let open = 0
  let wrong = ''
  const counts = { blob: 0, lost: 0, refused: 0, aborted: 0, closed: 0, unlucky: 0 }
  for (let step = 0; step < 10_000 && wrong === ''; step++) {
    const action = below(100)
    if (action < 60) {
      const start = below(400)
      const wanted = below(2) === 0 ? Array.from({ length: 1 + below(12) }, () => below(400)) : Array.from({ length: 1 + below(20) }, (_, i) => (start + i) % 400)
      const priority = below(3) === 0 ? 'ahead' : 'demand'
      const answered = new Set<number>()
      const mine = loader
      let closed = false
      open += wanted.length
      mine.fetch(wanted.map(i => all[i]), priority, (at, blob) => {
        open--
        if (answered.has(at)) wrong = `step ${step}: ${at} answered twice`
        answered.add(at)
        const i = wanted[at]
        if (!(blob instanceof Error)) {
          counts.blob++
          if (!blob.bytes().equals(blobs[i])) wrong = `step ${step}: wrong bytes of blob ${i}`
          if (i >= 300) wrong = `step ${step}: blob ${i} cannot be had`
          if (below(4) === 0) mine.drop(all[i])
          return
        }
        const { code } = blob as DaybookError
        closed ||= mine !== loader
        if (code === 'ERR_ABORTED') counts[closed ? 'aborted' : 'refused']++
        else if (i >= 300) counts.lost++
        else if (['ERR_UNREACHABLE', 'ERR_CORRUPT', 'ERR_NOT_FOUND'].includes(code)) counts.unlucky++
        else wrong = `step ${step}: blob ${i}: ${blob}`
        if (code === 'ERR_ABORTED' && !closed && priority === 'demand') wrong = `step ${step}: demand refused`
      })
    } else if (action < 70) {
      loader.drop(all[below(400)])
    } else if (action < 80) {
      const i = below(400)
      const blob = loader.peek(all[i])
      if (blob !== null && !blob.bytes().equals(blobs[i])) wrong = `step ${step}: wrong bytes in memory of blob ${i}`
    } else if (action === 80 && below(20) === 0) {
      const old = loader
      loader = makeOne()
      old.close()
      counts.closed++
    } else {
      for (let n = below(4); n > 0; n--) await turn()
    }
  }
  for (let n = 0; open > 0 && n < 100_000; n++) await turn()
  t.equal(wrong, '', `seed ${seed}`)
  t.equal(open, 0, 'every id got its answer')
  t.strictSame(loader.stats(), { ...loader.stats(), wanted: 0, inFlightBytes: 0, aheadBytes: 0 })
  t.ok(passing && counts.blob > 10_000 && counts.lost > 0 && counts.refused > 0 && counts.closed > 0, JSON.stringify(counts))
  t.ok(counts.unlucky < counts.blob / 20, 'faults that pass cost few answers')

  // With no fault left, everything that has a good copy is had.
  packs.backend.intercept = async () => {}
  packs.onRefresh = async () => false
  const fresh = makeOne()
  t.strictSame((await fetchAll(fresh, all)).map(answer => typeof answer === 'string' ? answer : 'blob'),
    blobs.map((_, i) => i < 300 ? 'blob' : packs.index.locate(all[i]).length > 0 ? 'ERR_CORRUPT' : 'ERR_NOT_FOUND'), `seed ${seed}`)
  fresh.close()
  loader.close()
})
