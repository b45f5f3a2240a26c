import { readlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { TreeRows } from '../../src/format/tree-rows.js'
import { native } from '../../src/native.js'
import { makeEveryKind, MIB } from '../fixtures/every-kind.js'
import { byPack, OpenRepository } from '../fixtures/open-repository.js'
import { referenceTree, shown } from '../fixtures/reference-tree.js'
import { findRestics, newestRestic, ResticRepository } from '../fixtures/restic.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'

// The oldest and the newest differ most.
const restics = findRestics().filter((_, i, all) => i === 0 || i === all.length - 1)
// Four repositories take a while where the key derivation is slow.
t.setTimeout(300_000)
const available = newestRestic() === null ? 'no restic' : process.getuid?.() !== 0 ? 'not root' : true

t.test('what restic wrote', async t => {
  if (!tier(t, 'restic', available)) return
  const scratch = makeScratch('daybook-restic')
  t.teardown(() => removeScratch(scratch))
  makeEveryKind(join(scratch, 'every'), { largeLength: 0, sparseLength: 64 * MIB, crowd: 500, depth: 20 })

  for (const restic of restics) for (const format of [1, 2] as const) t.test(`restic ${restic.version}, format ${format}`, async t => {
    const made = await ResticRepository.init(restic, join(scratch, `repo-${restic.series}-${format}`), { format })
    await made.backup(['every'], { cwd: scratch })
    const repository = await OpenRepository.open(made.dir, made.password)
    const trees = new Map<string, TreeRows>()
    // 0.14 follows links when it lists attributes, and stores targets as UTF-8 only.
    const knowsLinks = restic.series !== '0.14'

    await t.test('trees are as the reference reads them', async t => {
      let nodes = 0
      await repository.eachTree((id, json, rows) => {
        if (typeof json === 'number' || typeof rows === 'number') return t.fail(`${id}: ${json} ${rows}`)
        const view = new TreeRows(rows)
        trees.set(id, view)
        nodes += view.count
        t.ok(native.verifyRows(rows))
        t.same(shown(view), referenceTree(Buffer.from(id, 'hex'), json.toString()), id)
        t.equal(view.skipped, 0)
      })
      t.ok(nodes > 1000, `${nodes} nodes in ${trees.size} trees`)
    })

    await t.test('rows agree with the files', async t => {
      const root = trees.get((await repository.json('snapshots'))[0].tree)!
      let compared = 0
      const walk = (view: TreeRows, above: Buffer) => {
        for (let position = 0; position < view.count; position++) {
          const path = Buffer.concat([above, Buffer.from('/'), view.name(position)])
          const stat = native.statx(path), directory = view.isDirectory(position)
          const got = { mode: view.mode(position), uid: view.uid(position), gid: view.gid(position), mtime: view.mtime(position), ctime: view.ctime(position), rdev: view.rdev(position) }
          const expected = { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, ctime: stat.ctime, rdev: { major: stat.rdevMajor, minor: stat.rdevMinor } }
          if (JSON.stringify(got, bigints) !== JSON.stringify(expected, bigints)) t.same(got, expected, path.toString('latin1').replace(/[^ -~]/g, '?'))
          // restic stores no number of links for FIFOs.
          if (!directory && (stat.mode & 0o170000) !== 0o010000 && view.nlink(position) !== stat.nlink) t.equal(view.nlink(position), stat.nlink, `${path}`)
          if (!directory && !view.isSymlink(position) && view.size(position) !== Number(stat.size)) t.equal(view.size(position), Number(stat.size), `${path}`)
          if (view.isSymlink(position) && knowsLinks && !view.target(position).equals(readlinkSync(path, { encoding: 'buffer' }))) t.fail(`target of ${path}`)
          const names = (list: Buffer[]) => list.map(name => name.toString('latin1')).sort().join()
          if ((knowsLinks || !view.isSymlink(position)) && names(view.xattrs(position).map(({ name }) => name)) !== names(native.listXattrs(path))) t.fail(`xattrs of ${path}`)
          for (const { name, value } of view.xattrs(position)) if (!value.equals(native.getXattr(path, name))) t.fail(`${name} of ${path}`)
          compared++
          const subtree = view.subtree(position)
          if (directory) walk(trees.get(subtree!.toString('hex'))!, path)
        }
      }
      walk(root, Buffer.from(scratch))
      t.ok(compared > 1000, `${compared} compared`)
    })

    await t.test('every blob is good', async t => {
      let count = 0
      for (const blobs of byPack(await repository.blobs())) {
        for (const result of await native.decodeBlobs(...repository.arguments(blobs))) {
          if (typeof result === 'number') t.fail(`error ${result}`)
          else result.free()
          count++
        }
      }
      t.ok(count > 0, `${count} blobs`)
    })
  })
})

const bigints = (_: string, value: unknown) => typeof value === 'bigint' ? `${value}n` : value
