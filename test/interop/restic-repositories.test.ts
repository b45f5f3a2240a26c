import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { compare, digest } from '../fixtures/attribute-digest.js'
import { randomBytes, textBytes } from '../fixtures/bytes.js'
import { makeEveryKind } from '../fixtures/every-kind.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import type { MountFailed } from '../fixtures/mount-process.js'
import { findRestics, lostBy, newestRestic, ResticRepository } from '../fixtures/restic.js'

// Repositories in the states in which restic leaves them in the course of years: each is mounted and compared with what was backed up.
t.setTimeout(300_000)

if (mountTier(t)) await main()

async function main(): Promise<void> {
  const place = new MountCase(t, 'di')
  const source = place.path('s')
  makeEveryKind(source, { largeLength: 0, sparseLength: 0, crowd: 300, depth: 10 })
  const wanted = digest(source)
  const restics = findRestics(), newest = newestRestic()!
  let count = 0

  const make = (restic = newest, format: 1 | 2 = 2, byRestic = false) => place.repository({ restic, format, byRestic, name: `r${count++}` })
  /** mounted with an empty cache; `day` is shown in comparisons */
  const sameAs = async (t: Test, repository: ResticRepository, path = source, entries = wanted, args: string[] = []) => {
    const mounted = await place.mount(repository, { args })
    t.same(compare(entries, digest(mounted.latest(path)), { ignore: lostBy(repository.restic) }).slice(0, 40), [])
    await mounted.unmount()
  }

  for (const restic of restics) {
    // Format 2 by each of them: test/mount/exactness.test.ts.
    await t.test(`written by restic ${restic.version}, format 1`, async t => {
      const repository = await make(restic, 1, true)
      await repository.backup([source])
      await sameAs(t, repository)
    })
  }

  await t.test('begun by the oldest, continued by each: packs of all of them', async t => {
    const repository = await make(restics[0]!, 1)
    const more = place.path('more')
    mkdirSync(more)
    for (const restic of restics) {
      writeFileSync(join(more, restic.series), textBytes(restic.series, 50_000))
      await repository.with(restic).backup([more, source])
    }
    await sameAs(t, repository.with(newest), more, digest(more))
    await sameAs(t, repository)
  })

  await t.test('upgraded from format 1 to 2, half of it compressed', async t => {
    const repository = await make(restics[0]!, 1)
    const more = place.path('upgraded')
    mkdirSync(more)
    writeFileSync(join(more, 'before'), textBytes('before', 700_000))
    await repository.backup([source, more])
    const upgraded = repository.with(newest)
    await upgraded.run('migrate', 'upgrade_repo_v2')
    writeFileSync(join(more, 'after'), textBytes('after', 700_000))
    await upgraded.backup([source, more])
    await sameAs(t, upgraded, more, digest(more))
    await t.test('and then wholly', async t => {
      await upgraded.prune('--repack-uncompressed')
      await sameAs(t, upgraded, more, digest(more))
    })
  })

  await t.test('uncompressed and most compressed', async t => {
    for (const mode of ['off', 'max']) {
      const repository = await make()
      await repository.backup([source], { args: ['--compression', mode] })
      await sameAs(t, repository)
    }
  })

  await t.test('packs of the smallest and the largest size', async t => {
    for (const size of ['4', '128']) {
      const repository = await make()
      await repository.backup([source], { args: ['--pack-size', size] })
      await sameAs(t, repository)
    }
  })

  await t.test('copied from another repository, which seals everything anew', async t => {
    const from = await make()
    await from.backup([source])
    const to = new ResticRepository(newest, place.path('copy'))
    const passwordFile = place.path('password')
    writeFileSync(passwordFile, from.password)
    await to.run('init', '--from-repo', from.dir, '--from-password-file', passwordFile, '--copy-chunker-params')
    await to.run('copy', '--from-repo', from.dir, '--from-password-file', passwordFile)
    await sameAs(t, to)
  })

  await t.test('rewritten without some files', async t => {
    const repository = await make()
    await repository.backup([source])
    await repository.run('rewrite', '--forget', '--exclude', `${source}/names`)
    await sameAs(t, repository, source, wanted.filter(({ path }) => path.toString('latin1').split('/')[0] !== 'names'))
  })

  await t.test('the index rebuilt', async t => {
    const repository = await make()
    await repository.backup([source])
    await repository.run('repair', 'index', '--read-all-packs')
    await sameAs(t, repository)
  })

  await t.test('several keys', async t => {
    const repository = await make()
    await repository.backup([source])
    const file = place.path('second-password')
    writeFileSync(file, 'the second password')
    await repository.run('key', 'add', '--new-password-file', file)
    t.equal(readdirSync(join(repository.dir, 'keys')).length, 2)
    await sameAs(t, repository)
    const mounted = await place.mount(repository, { env: { RESTIC_PASSWORD: 'the second password' } })
    t.same(compare(wanted, digest(mounted.latest(source))), [], 'with the second password')
    await mounted.unmount()
    for (const name of readdirSync(join(repository.dir, 'keys'))) {
      if (readFileSync(join(repository.dir, 'keys', name), 'utf8').includes('"N":1024')) rmSync(join(repository.dir, 'keys', name))
    }
    const alone = await place.mount(repository, { env: { RESTIC_PASSWORD: 'the second password' } })
    t.ok(readdirSync(alone.latest(source)).length > 0, 'the first key removed')
    await alone.unmount()
    const refused = await place.mount(repository).catch((error: MountFailed) => error)
    t.equal(refused.exit?.code, 12, 'then the first password is wrong')
  })

  await t.test('backed up in every way of naming what to back up', async t => {
    const dir = place.path('ways')
    mkdirSync(join(dir, 'a/b'), { recursive: true })
    writeFileSync(join(dir, 'a/b/file'), 'content')
    writeFileSync(join(dir, 'top'), 'top')
    const ways: { args: string[], cwd?: string, path: string }[] = [
      { args: [dir], path: `${dir}/a/b/file` }, { args: ['.'], cwd: dir, path: 'a/b/file' }, { args: ['a'], cwd: dir, path: 'a/b/file' }, { args: ['a/b', 'top'], cwd: dir, path: 'a/b/file' },
      { args: ['../ways/a'], cwd: dir, path: 'ways/a/b/file' }, { args: [`${dir}/a/b/file`], path: `${dir}/a/b/file` }, { args: ['a/b/file'], cwd: dir, path: 'a/b/file' },
      { args: ['./a/./b'], cwd: dir, path: 'a/b/file' },
    ]
    const repository = await make()
    for (const [n, { args, cwd }] of ways.entries()) await repository.backup(args, { cwd, time: `2026-01-0${n + 1} 12:00:00` })
    const mounted = await place.mount(repository)
    for (const [n, { args, path }] of ways.entries()) t.equal(readFileSync(join(mounted.dir, `2026-01-0${n + 1}`, path), 'utf8'), 'content', args.join(' '))
    await mounted.unmount()
  })

  await t.test('data from standard input', async t => {
    const repository = await make()
    const data = randomBytes('stdin', 3_000_000)
    const result = await repository.try(['backup', '--stdin', '--stdin-filename', 'dump.sql'], { input: data })
    t.equal(result.code, 0)
    const mounted = await place.mount(repository)
    t.ok(readFileSync(mounted.latest('dump.sql')).equals(data))
    await mounted.unmount()
  })

  await t.test('access times, where they were recorded', async t => {
    const dir = place.path('atime')
    mkdirSync(dir)
    writeFileSync(join(dir, 'file'), 'x')
    utimesSync(join(dir, 'file'), 999_999_999.5, 1_500_000_000)
    const entries = digest(dir, { contents: false })
    const repository = await make()
    await repository.backup([dir], { args: ['--with-atime'] })
    const mounted = await place.mount(repository)
    t.same(compare(entries, digest(mounted.latest(dir), { contents: false }), { atime: true, ignore: (entry, field) => field === 'atime' && entry.type === 'directory' }), [])
    await mounted.unmount()
  })

  await t.test('no snapshot yet, and one with nothing but an empty directory', async t => {
    const repository = await make()
    const mounted = await place.mount(repository, { args: ['--poll', '0'] })
    t.same(readdirSync(mounted.dir), [])
    await mounted.unmount()
    const empty = place.path('empty')
    mkdirSync(empty)
    await repository.backup([empty])
    const again = await place.mount(repository)
    t.same(readdirSync(again.latest(empty)), [])
    await again.unmount()
  })
}
