import { mkdirSync, readdirSync, rmSync, writeFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { randomBytes, textBytes } from '../fixtures/bytes.js'
import { makeEveryKind } from '../fixtures/every-kind.js'
import { projectRoot } from '../fixtures/mount-process.js'
import { findRestics, ResticRepository, type Restic } from '../fixtures/restic.js'
import { output, run, type Result } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'
import { weakenKey } from '../fixtures/weak-key.js'

t.setTimeout(300_000)

const restics = findRestics().filter(({ series }) => Number(series.split('.')[1]) >= 18)

/** A repository made by daybook, worked on by both. */
class Shared {
  readonly restic: ResticRepository
  constructor(readonly dir: string, restic: Restic, format: 1 | 2 = 2) { this.restic = new ResticRepository(restic, dir, format) }

  try(...args: string[]): Promise<Result> {
    return run(join(projectRoot, 'bin/daybook'), ['--cache-dir', `${this.dir}-daybook`, ...args], { env: this.restic.env })
  }

  async daybook(...args: string[]): Promise<Record<string, any>> {
    const lines = (await output(join(projectRoot, 'bin/daybook'), ['--json', '--cache-dir', `${this.dir}-daybook`, ...args], { env: this.restic.env })).toString().trim().split('\n')
    return JSON.parse(lines.at(-1)!)
  }

  async init(): Promise<this> {
    await this.daybook('init', '--repository-version', String(this.restic.format))
    weakenKey(this.restic)
    return this
  }

  /** Of the newest snapshot, the tree of a path. */
  async tree(id: string): Promise<string> {
    return (await this.restic.snapshots()).find(snapshot => snapshot.id === id)!.tree
  }
}

t.test('daybook and restic', { skip: !tier(t, 'restic', restics.length > 0 || 'no restic of 0.18 or later') && 'no restic' }, async t => {
  const dir = makeScratch('interop-backup')
  t.teardown(() => removeScratch(dir))
  const source = join(dir, 'source')
  const root = process.getuid!() === 0
  if (root) makeEveryKind(source, { largeLength: 0, sparseLength: 9 << 20, crowd: 300, depth: 20 })
  else {
    mkdirSync(join(source, 'a/b'), { recursive: true })
    symlinkSync('nowhere', join(source, 'a/link'))
  }
  writeFileSync(join(source, 'random'), randomBytes('interop', 3_000_000))
  writeFileSync(join(source, 'text'), textBytes(1, 3_000_000))

  for (const restic of restics) {
    await t.test(`restic ${restic.version} makes the same tree of every kind of file, reads all, and adds nothing`, async t => {
      const shared = await new Shared(join(dir, `first-${restic.series}`), restic).init()
      const ours = await shared.daybook('backup', source)
      t.match(await shared.restic.run('check', '--read-data'), /no errors were found/)
      const theirs = await shared.restic.backup([source], { args: ['--force'] })
      t.equal(theirs.summary.data_blobs, 0, 'no data blob')
      // Directories above the source may change meanwhile: each is one tree of a few hundred bytes.
      t.ok(theirs.summary.tree_blobs! <= source.split('/').length, `${theirs.summary.tree_blobs} trees`)
      const subtree = async (id: string) => JSON.parse((await shared.restic.run('ls', '--json', id, source)).split('\n')[1]!)
      t.strictSame({ ...await subtree(theirs.id), atime: 0 }, { ...await subtree(ours.snapshot_id), atime: 0 })
      t.equal((await shared.restic.run('diff', ours.snapshot_id, theirs.id)).match(/^[+\-MUT] /gm), null, 'no difference')

      const back = join(dir, `back-${restic.series}`)
      await shared.restic.run('restore', `${ours.snapshot_id}:${source}`, '--target', back)
      // restic itself loses times behind 2262 and hard links between what is no file.
      if (root) t.equal((await output('rsync', ['-aAXn', '--checksum', '--delete', '--itemize-changes', '--exclude', '/times/2446*', '--exclude', '/times/2200*', `${source}/`, `${back}/`])).toString().split('\n').filter(line => line !== '' && !line.endsWith(' ./')).join('\n'), '')
      rmSync(back, { recursive: true, force: true })
    })

    if (restic === restics.at(-1)) await t.test(`daybook adds nothing to what restic ${restic.version} has saved`, async t => {
      const shared = new Shared(join(dir, `second-${restic.series}`), restic)
      await ResticRepository.init(restic, shared.dir)
      await shared.restic.backup([source], { host: 'one' })
      const forced = await shared.daybook('backup', '--host', 'one', '--force', source)
      t.equal(forced.data_blobs, 0, 'no data blob, all read')
      t.equal(forced.files_unmodified, 0)
      const compared = await shared.daybook('backup', '--host', 'one', source)
      t.equal(compared.files_new + compared.files_changed, 0, 'nothing read that restic knows')
      t.equal(compared.data_blobs, 0)
      t.match(await shared.restic.run('check', '--read-data'), /no errors were found/)
    })
  }

  const restic = restics.at(-1)!
  t.test('format 1, and contents without compression', async t => {
    for (const [format, compression] of [[1, 'auto'], [2, 'off'], [2, 'max']] as const) {
      const shared = await new Shared(join(dir, `format-${format}-${compression}`), restic, format).init()
      await shared.daybook('backup', '--compression', compression, join(source, 'text'), join(source, 'random'))
      t.match(await shared.restic.run('check', '--read-data'), /no errors were found/, `format ${format}, ${compression}`)
      t.equal((await shared.restic.backup([join(source, 'text'), join(source, 'random')], { args: ['--force'] })).summary.data_blobs, 0)
    }
  })

  t.test('excludes, names of our own, and what is not there', async t => {
    const tree = join(dir, 'small')
    mkdirSync(join(tree, 'keep/cache'), { recursive: true })
    for (const [name, content] of Object.entries({ 'a.txt': 'a', 'a.tmp': 'tmp', 'keep/b.tmp': 'b', 'keep/c': 'c', 'keep/cache/CACHEDIR.TAG': 'Signature: 8a477f597d28d172789f06886806bc55', 'keep/cache/x': 'x', big: 'b'.repeat(5000) })) {
      writeFileSync(join(tree, name), content)
    }
    const shared = await new Shared(join(dir, 'options'), restic).init()
    const args = ['--exclude', '*.tmp', '--exclude', '!b.tmp', '--exclude-caches', '--exclude-larger-than', '4K', '--tag', 'one,two', '--time', '2026-01-02 03:04:05', '--host', 'elsewhere']
    const ours = await shared.daybook('backup', ...args, tree)
    const theirs = await shared.restic.backup([tree], { args: args.slice(0, 7).concat('--force'), host: 'elsewhere' })
    const names = async (id: string) => (await shared.restic.run('ls', id)).split('\n').filter(line => line.startsWith(tree))
    t.strictSame(await names(ours.snapshot_id), await names(theirs.id), 'the same entries as with restic')
    const info = (await shared.restic.snapshots()).find(({ id }) => id === ours.snapshot_id)!
    t.match(info, { hostname: 'elsewhere', tags: ['one', 'two'], paths: [tree], time: /^2026-01-02T03:04:05/ })

    const named = await shared.daybook('backup', '--set-path', `files=${tree}`, '--set-path', `mails/alice=${join(tree, 'keep')}`)
    const listed = (await shared.restic.run('ls', named.snapshot_id)).split('\n')
    for (const name of ['/files/a.txt', '/mails/alice/c']) t.ok(listed.includes(name), name)

    const partly = await shared.try('backup', tree, join(dir, 'nowhere'))
    t.equal(partly.code, 3, 'something is not there: saved all the same')
    t.equal((await shared.try('backup', join(dir, 'nowhere'))).code, 2)
    t.equal((await shared.try('init')).code, 2, 'a repository is not made twice')
  })

  t.test('what is the same again makes no snapshot, and a dry run stores nothing', async t => {
    const shared = await new Shared(join(dir, 'again'), restic).init()
    const files = () => readdirSync(shared.dir, { recursive: true }).length
    const before = files()
    const dry = await shared.daybook('backup', '--dry-run', join(source, 'text'))
    t.match(dry, { dry_run: true, data_blobs: Number })
    t.ok(dry.data_blobs > 0 && dry.snapshot_id === undefined)
    t.equal(files(), before)
    await shared.daybook('backup', join(source, 'text'))
    const once = (await shared.restic.snapshots()).length
    const same = await shared.daybook('backup', '--skip-if-unchanged', join(source, 'text'))
    if (same.dirs_changed === 0) t.equal((await shared.restic.snapshots()).length, once)
  })

  t.test('standard input, and what a command writes', async t => {
    const shared = await new Shared(join(dir, 'streams'), restic).init()
    const bytes = Buffer.concat([randomBytes('stream', 3_000_000), textBytes(5, 1_000_000)])
    const args = ['--json', '--cache-dir', `${shared.dir}-daybook`, 'backup', '--stdin', '--stdin-filename', 'dumps/shop.sql']
    const piped = await run(join(projectRoot, 'bin/daybook'), args, { env: shared.restic.env, input: bytes })
    t.equal(piped.code, 0, piped.stderr)
    t.ok((await output(restic.path, ['dump', 'latest', '/dumps/shop.sql'], { env: shared.restic.env })).equals(bytes))
    await shared.daybook('backup', '--stdin-from-command', '--', 'sh', '-c', 'echo one; echo two')
    t.equal(await shared.restic.run('dump', 'latest', '/stdin'), 'one\ntwo\n')
    const before = (await shared.restic.snapshots()).length
    for (const command of ['echo half; exit 3', 'kill -9 $$']) {
      const failed = await shared.try('backup', '--stdin-from-command', '--', 'sh', '-c', command)
      t.equal(failed.code, 1, command)
      t.match(failed.stderr, /sh failed/)
    }
    t.equal((await shared.try('backup', '--stdin-from-command', '--', 'no-such-command')).code, 2)
    t.equal((await shared.restic.snapshots()).length, before, 'no snapshot of a command that fails')
    t.match(await shared.restic.run('check', '--read-data'), /no errors were found/)
  })

  t.test('no lock stays behind', async t => {
    const shared = await new Shared(join(dir, 'locked'), restic).init()
    await shared.daybook('backup', join(source, 'text'))
    t.strictSame(readdirSync(join(shared.dir, 'locks')), [])
  })
})
