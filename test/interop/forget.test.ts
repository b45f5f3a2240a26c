import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LocalBackend } from '../../src/backend/local.js'
import { encodeLockFile } from '../../src/format/lock-file.js'
import { openRepository } from '../../src/repository/open.js'
import { saveUnpacked, type WriteAccess } from '../../src/repository/save-unpacked.js'
import type { Policy } from '../../src/retention/policy.js'
import { formatSpan, type Span } from '../../src/retention/span.js'
import { daybook } from '../fixtures/mount-process.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { output, run } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { seeded } from '../fixtures/seeded.js'
import { randomHistory, randomPolicy, resticTerms, ZONES } from '../fixtures/snapshot-history.js'
import { tier } from '../fixtures/tiers.js'

t.setTimeout(300_000)

const ROUNDS = 6
const restic = newestRestic()
const usable = restic !== null && Number(restic.series.split('.')[1]) >= 18

if (tier(t, 'restic', usable || 'no restic of 0.18 or later')) t.test('forget, and restic\'s', async t => {
  const dir = makeScratch('interop-forget')
  t.teardown(() => removeScratch(dir))
  const repository = await ResticRepository.init(restic!, join(dir, 'repo'))
  mkdirSync(join(dir, 'source'))
  writeFileSync(join(dir, 'source/file'), 'content')
  await repository.backup([join(dir, 'source')])
  const { tree } = (await repository.snapshots())[0]!
  const backend = new LocalBackend(repository.dir)
  const { keys } = await openRepository(backend, Buffer.from(repository.password))
  const access: WriteAccess = { backend, keys, version: 2, level: 3 }
  const put = (fields: object) => saveUnpacked(access, 'snapshots', Buffer.from(JSON.stringify({ tree, paths: ['/home'], hostname: 'web1', username: 'root', ...fields })))
  const clear = () => { for (const name of readdirSync(join(repository.dir, 'snapshots'))) rmSync(join(repository.dir, 'snapshots', name)) }
  const left = () => readdirSync(join(repository.dir, 'snapshots')).sort()
  const ours = (args: string[], env: NodeJS.ProcessEnv = {}) => run(daybook, ['--cache-dir', join(dir, 'cache'), ...args], { env: { ...repository.env, ...env } })
  const day = (number: number) => `2026-10-${String(number).padStart(2, '0')}T03:00:00Z`

  await t.test('keeps and removes the same, for the same reasons', async t => {
    const { seed, random } = seeded()
    t.comment(`SEED=${seed}`)
    for (let round = 0; round < ROUNDS; round++) {
      const TZ = ZONES[round % ZONES.length]!
      clear()
      process.env.TZ = TZ
      // What is locked or incomplete, and snapshots of one moment, are not restic's matter.
      const moments = new Set<number>()
      for (const { timeMs, time, tags, hostname, paths } of randomHistory(random, 60, Date.now())) {
        const known = tags.filter(tag => tag === 'foo' || tag === 'bar')
        if (!moments.has(timeMs)) await put({ time, hostname, paths, tags: known.length > 0 ? known : undefined })
        moments.add(timeMs)
      }
      delete process.env.TZ
      const args = ['--dry-run', '--json', '--group-by', ['host,paths', 'host', '', 'tags,paths'][round % 4]!, ...keepOptions({ ...resticTerms(randomPolicy(random)), daily: 3 })]
      const theirs = parse(await output(repository.restic.path, ['forget', ...args], { env: { ...repository.env, TZ } }))
      t.strictSame(parse((await ours(['forget', ...args], { TZ })).stdout), theirs, `${TZ} ${args.join(' ')}`)
    }
  })

  await t.test('removes what it says, under a lock', async t => {
    clear()
    const ids: string[] = []
    for (let i = 1; i <= 9; i++) ids.push(await put({ time: day(i), tags: i === 2 ? ['locked'] : undefined }))
    const other = await put({ time: day(1), hostname: 'web2' })
    const before = left()

    const lock = await saveUnpacked(access, 'locks', encodeLockFile({ exclusive: false, hostname: 'elsewhere', username: 'somebody', pid: 1 }, new Date().toISOString(), 0, 0))
    t.match(await ours(['forget', '--keep-last', '3']), { code: 11, stderr: /locked by somebody on elsewhere/ }, 'not beside others')
    t.match(await ours(['forget', '--keep-last', '3', '--dry-run']), { code: 0 }, 'to look, no lock is needed')
    await backend.remove({ type: 'locks', name: lock })
    t.strictSame(left(), before, 'nothing is gone yet')

    const { code, stdout, stderr } = await ours(['forget', '--keep-last', '3'])
    t.equal(code, 0, stderr)
    t.match(stdout.toString(), /keep 4 snapshots of host web1, paths \/home:\n/)
    t.match(stdout.toString(), /5 snapshots removed\n/)
    t.strictSame(left(), [...ids.slice(6), ids[1]!, other].sort())
    t.strictSame(readdirSync(join(repository.dir, 'locks')), [])
    t.match(await repository.run('check'), /no errors were found/)
    t.equal((await repository.snapshots()).length, 5)

    await ours(['forget', '--keep-tag', 'none', '--host', 'web2'])
    t.ok(left().includes(other), 'the last of a group stays')
    t.match(await ours(['forget', ids[8]!.slice(0, 10)]), { code: 0 })
    t.notOk(left().includes(ids[8]!), 'one that is named goes')
    t.match(await ours(['forget', ids[1]!]), { code: 2, stderr: /is locked by its tag locked/ }, 'not if it is locked')
    t.match(await ours(['forget', '--unsafe-allow-remove-all', '--host', 'web1', '-q']), { code: 0, stderr: '' })
    t.strictSame(left(), [ids[1]!, other].sort(), 'all but what is locked')
    t.match(await repository.run('prune'), /done/)
    t.match(await repository.run('check', '--read-data'), /no errors were found/)
  })

  await t.test('what is not understood removes nothing', async t => {
    const before = left()
    for (const [args, message] of [
      [[], /no policy was specified/], [['--keep-last', '0'], /no policy/], [['--keep-last', '-1'], /not a number/], [['--keep-days', 'x'], /not a number/], [['--keep-within', '3'], /not a duration/],
      [['--keep-last', '1', '--group-by', 'day'], /--group-by day/], [['--unsafe-allow-remove-all'], /not allowed unless/], [['0000000000'], /no snapshot 0000000000/],
    ] as const) t.match(await ours(['forget', ...args]), { code: 2, stderr: message }, args.join(' '))
    t.strictSame(left(), before)
  })
})

interface ForgetGroup { host: string, paths: string[] | null, tags: string[] | null, keep: { id: string }[] | null, remove: { id: string }[] | null, reasons: { snapshot: { id: string }, matches: string[] }[] | null }

/** The groups, in an order of their own: restic's is random. */
function parse(json: Buffer): unknown[] {
  const ids = (list: { id: string }[] | null) => list?.map(({ id }) => id) ?? null
  return (JSON.parse(json.toString()) as ForgetGroup[]).map(({ host, paths, tags, keep, remove, reasons }) => ({
    host, paths, tags, keep: ids(keep), remove: ids(remove), reasons: reasons?.map(({ snapshot, matches }) => [snapshot.id, ...matches]),
  })).sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)
}

function keepOptions(policy: Policy): string[] {
  const spelled = (name: string) => `--keep-${name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
  return Object.entries(policy).flatMap(([term, value]) => {
    if (term === 'tags') return (value as string[][]).flatMap(list => ['--keep-tag', list.join(',')])
    if (value === 0 || value === null) return []
    return [spelled(term), value === Infinity ? 'unlimited' : typeof value === 'number' ? String(value) : formatSpan(value as Span)]
  })
}
