import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseMountTable } from '../../src/mount/mount-table.js'
import { prepareMountpoint } from '../../src/mount/mountpoint.js'
import { resolvePath } from '../../src/mount/resolve-path.js'
import { silentLogger } from '../../src/util/log.js'

function scratch(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'daybook-mountpoint-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

t.test('a mountpoint is refused for what is wrong with it', async t => {
  const dir = scratch(t)
  for (const name of ['empty', 'full', 'repo', 'repo/data', 'repo/data/inner', 'outer']) mkdirSync(join(dir, name))
  writeFileSync(join(dir, 'full/x'), '')
  writeFileSync(join(dir, 'file'), '')
  symlinkSync('repo/data', join(dir, 'link'))
  symlinkSync('loop', join(dir, 'loop'))
  const repository = [{ what: 'the repository', path: join(dir, 'repo') }]
  for (const { at, own = repository, message } of [
    { at: 'missing', message: /missing does not exist/ },
    { at: 'missing/deeper', message: /does not exist/ },
    { at: 'file', message: /file is not a directory/ },
    { at: 'file/x', message: /is not a directory/ },
    { at: 'loop', message: /too many symbolic links/ },
    { at: 'full', message: /full is not empty/ },
    { at: 'repo', message: /repo is the repository itself/ },
    { at: 'repo/data/inner', message: /lies inside the repository/ },
    { at: 'link/inner', message: /lies inside the repository/ },
    { at: 'outer', own: [{ what: 'the cache directory', path: join(dir, 'outer/cache/deep'), mayContainMountpoint: true }], message: /the cache directory .* lies inside the mountpoint/ },
    { at: 'repo/data/inner', own: [{ what: 'the repository', path: join(dir, 'link') }], message: /lies inside the repository/ },
    { at: '/', message: /mount|root directory/ },
  ]) await t.rejects(prepareMountpoint(join(at.startsWith('/') ? '' : dir, at), own, silentLogger), { code: 'ERR_USAGE', message }, `${at}: ${message}`)
  await t.rejects(prepareMountpoint('', [], silentLogger), { code: 'ERR_USAGE' }, 'an empty name')
})

t.test('a good mountpoint comes back as an absolute path without symlinks', async t => {
  const dir = scratch(t)
  mkdirSync(join(dir, 'real/inner'), { recursive: true })
  symlinkSync('real', join(dir, 'link'))
  const real = (await resolvePath(dir, [])).path
  for (const asked of ['real/inner', 'link/inner', 'link/../real/./inner/', 'real//inner']) {
    t.equal(await prepareMountpoint(`${dir}/${asked}`, [], silentLogger), `${real}/real/inner`, asked)
  }
  t.equal((await resolvePath('inner', [], join(dir, 'link'))).path, `${real}/real/inner`, 'relative to the working directory')
  const cache = [{ what: 'the cache directory', path: `${dir}/real`, mayContainMountpoint: true }]
  t.equal(await prepareMountpoint(`${dir}/real/inner`, cache, silentLogger), `${real}/real/inner`, 'inside the cache directory')
})

t.test('a path that leads to a mount is not touched behind it', async t => {
  const root = parseMountTable(Buffer.from('9 1 0:50 / /not-there rw - fuse.daybook daybook rw'))
  const found = await resolvePath('/not-there', root)
  t.equal(found.path, '/not-there')
  t.equal(found.mount?.id, 9, 'the mount itself is found by its name alone')
})
