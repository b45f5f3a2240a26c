import { copyFileSync, readdirSync, readFileSync, renameSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LocalBackend } from '../../src/backend/local.js'
import { decodeIndexFile, indexBlobs } from '../../src/format/index-file.js'
import { openRepository } from '../../src/repository/open.js'
import type { OpenOptions } from '../../src/repository/open.js'
import { syncIndex } from '../../src/repository/sync-index.js'
import { loadSnapshots } from '../../src/repository/snapshots.js'
import { MemoryIndex } from '../fixtures/memory-index.js'
import { findRestics, ResticRepository } from '../fixtures/restic.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'

// Each key made or tried costs restic's half second, and the machine may be busy.
t.setTimeout(300_000)
const restics = findRestics()

t.test('repositories made by the real restic', { skip: tier(t, 'restic', restics.length > 0 || 'no restic on the PATH') ? false : 'no restic' }, async t => {
  const scratch = makeScratch('restic-test')
  t.teardown(() => removeScratch(scratch))
  const oldest = restics[0]
  const newest = restics[restics.length - 1]
  const cases = [...new Map([[oldest, 1], [oldest, 2], [newest, 2]].map(([restic, format]) => [`${(restic as typeof oldest).version} format ${format}`, { restic, format }])).values()]

  for (const { restic, format } of cases as { restic: typeof oldest, format: 1 | 2 }[]) {
    await t.test(`restic ${restic.version}, format ${format}`, async t => {
      const made = await ResticRepository.init(restic, join(scratch, `${restic.series}-${format}`), { format, byRestic: true })
      const first = await made.backup([t.testdir({ a: 'one', b: { c: 'two' } })], { host: 'web', tags: ['daily,sql', 'x'], time: '2026-01-02 03:04:05' })
      const second = await made.backup([t.testdir({ a: 'one', b: { c: 'three'.repeat(1000) } })], { host: 'db' })
      const open = (password = made.password, options: OpenOptions = {}) => openRepository(new LocalBackend(made.dir), Buffer.from(password), options)

      const repository = await open()
      t.equal(repository.version, format)
      t.equal(repository.id, JSON.parse(await made.run('cat', 'config')).id)

      const snapshots = await loadSnapshots(repository)
      const listed = (await made.snapshots()).sort((a, b) => Date.parse(a.time) - Date.parse(b.time))
      t.strictSame(snapshots.map(({ id }) => id), [first.id, second.id])
      t.strictSame(snapshots.map(({ id, time, tree, hostname, tags, paths }) => ({ id, time, tree: tree.toString('hex'), hostname, tags, paths })),
        listed.map(({ id, time, tree, hostname, tags, paths }) => ({ id, time, tree, hostname, tags: tags ?? [], paths })), 'snapshots are what restic says they are')
      t.equal(snapshots[0].timeMs, new Date('2026-01-02 03:04:05').getTime())

      const index = new MemoryIndex()
      t.match(await syncIndex(repository, index.asLocalIndex()), { newIndexFiles: 2, snapshots: { length: 2 }, damaged: [] })
      for (const name of index.indexFiles()) {
        const file = await decodeIndexFile(name, await repository.loadUnpacked('index', name))
        t.equal(file.skipped, 0)
        const blobs = [...indexBlobs(file)]
        t.ok(blobs.length > 0)
        for (let pack = 0; pack < file.packCount; pack++) {
          const packName = file.packs.toString('hex', pack * 32, pack * 32 + 32)
          const { size } = await repository.backend.stat({ type: 'data', name: packName })
          const plainOf = (blob: object) => ({ ...blob, id: (blob as { id: Buffer }).id.toString('hex') })
          t.strictSame((await repository.loadPackHeader(packName, size)).map(plainOf),
            blobs.filter(blob => blob.pack === pack).map(({ pack, ...blob }) => plainOf(blob)).sort((a, b) => (a as unknown as { offset: number }).offset - (b as unknown as { offset: number }).offset),
            'index file and pack header agree')
        }
      }
      await repository.close()

      await t.rejects(open('wrong'), { code: 'ERR_WRONG_PASSWORD' })
      writeFileSync(join(scratch, 'second-password'), 'another one\n')
      await made.run('key', 'add', '--new-password-file', join(scratch, 'second-password'))
      t.equal((await open()).id, repository.id, 'with two keys, the first')
      t.equal((await open('another one')).id, repository.id, 'and the second')
      await t.rejects(open('wrong'), { code: 'ERR_WRONG_PASSWORD' })

      const keyNames = readdirSync(join(made.dir, 'keys'))
      const mine = (await open()).keyName
      const other = keyNames.find(name => name !== mine)!
      const otherFile = join(made.dir, 'keys', other)
      copyFileSync(otherFile, join(scratch, 'key'))
      truncateSync(otherFile, statSync(otherFile).size - 1)
      const reports: string[] = []
      t.equal((await open(made.password, { onDamaged: ({ file }) => reports.push(file) })).keyName, mine, 'a damaged key file beside a good one')
      t.strictSame(reports, [`key ${other}`])
      await t.rejects(open('another one'), { code: 'ERR_WRONG_PASSWORD', hint: /damaged/ })
      const myFile = join(made.dir, 'keys', mine)
      copyFileSync(myFile, join(scratch, 'mine'))
      writeFileSync(myFile, readFileSync(myFile).subarray(0, 100))
      await t.rejects(open(), { code: 'ERR_CORRUPT', reason: /none of 2 key files/ })
      renameSync(join(scratch, 'mine'), myFile)
      renameSync(join(scratch, 'key'), otherFile)

      const config = join(made.dir, 'config')
      const good = readFileSync(config)
      for (const [name, bytes] of [['cut short', good.subarray(0, -1)], ['empty', Buffer.alloc(0)], ['longer', Buffer.concat([good, good])]] as const) {
        await t.test(`config ${name}`, async t => {
          writeFileSync(join(scratch, 'config'), bytes)
          renameSync(join(scratch, 'config'), config)
          await t.rejects(open(), { code: 'ERR_CORRUPT', file: 'config' })
        })
      }
    })
  }
})
