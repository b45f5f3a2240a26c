import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { LocalBackend } from '../../src/backend/local.js'
import { DaybookError } from '../../src/errors.js'
import { HEADER_LENGTH, RECORD_LENGTH, RowFlag } from '../../src/format/tree-rows.js'
import { openIndex } from '../../src/index/open-index.js'
import { native } from '../../src/native.js'
import { BlobLoader } from '../../src/repository/blob-loader.js'
import { openRepository } from '../../src/repository/open.js'
import { Repository } from '../../src/repository/repository.js'
import { IndexSync } from '../../src/repository/sync-index.js'
import { TreeLoader } from '../../src/repository/tree-loader.js'
import { silentLogger as log } from '../../src/util/log.js'
import { random, randomBytes, textBytes } from '../fixtures/bytes.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'

/** Both loaders on a repository made by restic. */
async function openLoaders(t: Test, { dir }: ResticRepository, { config, keys, keyName }: Repository) {
  // The key is derived once per repository; everything else is fresh each time.
  const opened = new Repository(new LocalBackend(dir), config, Buffer.from(keys), keyName)
  const cacheDir = makeScratch('loaders-cache')
  const index = await openIndex({ cacheDir, repositoryId: opened.id, log })
  const sync = new IndexSync(opened, index, { log })
  const { snapshots } = await sync.refresh()
  const refresh = async () => (await sync.refresh()).changed
  const shared = { backend: opened.backend, keys: opened.keys, index, native, refresh, log }
  const trees = new TreeLoader(shared)
  const blobs = new BlobLoader(shared)
  t.teardown(async () => {
    blobs.close()
    await trees.close()
    sync.close()
    await index.close()
    await opened.close()
    removeScratch(cacheDir)
  })
  return { snapshots, trees, blobs }
}

type Loaders = Awaited<ReturnType<typeof openLoaders>>

/** Files below a tree: path -> ids of its blobs, or an error's code for a directory that cannot be read. */
async function walk(trees: TreeLoader, tree: Uint8Array, path = '', files = new Map<string, Buffer[] | string>()): Promise<Map<string, Buffer[] | string>> {
  let rows: Buffer
  try {
    rows = await trees.load(tree)
  } catch (error) {
    return files.set(path, (error as DaybookError).code)
  }
  const idsAt = (offset: number, count: number) => Array.from({ length: count }, (_, i) => rows.subarray(offset + 32 * i, offset + 32 * i + 32))
  for (let at = HEADER_LENGTH; at < HEADER_LENGTH + rows.readUInt32LE(16) * RECORD_LENGTH; at += RECORD_LENGTH) {
    const name = rows.subarray(rows.readUInt32LE(at + 80)).subarray(0, rows.readUInt16LE(at + 84)).toString()
    const flags = rows.readUInt16LE(at + 86)
    const ids = idsAt(rows.readUInt32LE(at + 92), rows.readUInt32LE(at + 96))
    if (flags & RowFlag.directory) await walk(trees, ids[0], `${path}/${name}`, files)
    else if (flags & RowFlag.regular) files.set(`${path}/${name}`, ids)
  }
  return files
}

function read(blobs: BlobLoader, ids: readonly Uint8Array[]): Promise<Buffer | string> {
  if (ids.length === 0) return Promise.resolve(Buffer.alloc(0))
  return new Promise(resolve => {
    const parts: Buffer[] = []
    let left = ids.length
    let failed = ''
    blobs.fetch(ids, 'demand', (i, blob) => {
      if (blob instanceof Error) failed = (blob as DaybookError).code
      else parts[i] = blob.bytes()
      if (--left === 0) resolve(failed || Buffer.concat(parts))
    })
  })
}

/** What every file below `source` reads as: null if it is right, else an error's code or 'wrong'. */
async function readAll({ snapshots, trees, blobs }: Loaders, source: Map<string, Buffer>): Promise<Map<string, string | null>> {
  const found = await walk(trees, snapshots.at(-1)!.tree)
  const verdicts = new Map<string, string | null>()
  await Promise.all([...source].map(async ([path, wanted]) => {
    const ids = found.get(path)
    if (!Array.isArray(ids)) return verdicts.set(path, [...found].find(([dir, code]) => typeof code === 'string' && path.startsWith(`${dir}/`))?.[1] as string ?? 'missing')
    const bytes = await read(blobs, ids)
    return verdicts.set(path, typeof bytes === 'string' ? bytes : bytes.equals(wanted) ? null : 'wrong')
  }))
  return verdicts
}

function makeSource(dir: string): Map<string, Buffer> {
  const source = new Map<string, Buffer>()
  for (let i = 0; i < 150; i++) source.set(`/d${i % 12}/e${i % 5}/f${i}`, i % 3 === 0 ? randomBytes(i, 1 + i * 50) : textBytes(i, i * 101))
  source.set('/large', Buffer.concat([randomBytes('large', 9_000_000), textBytes('large', 4_000_000)]))
  for (const [path, bytes] of source) {
    mkdirSync(join(dir, path, '..'), { recursive: true })
    writeFileSync(join(dir, path), bytes)
  }
  return source
}

t.setTimeout(600_000)

const packsOf = (repository: ResticRepository) => readdirSync(join(repository.dir, 'data'), { recursive: true, encoding: 'utf8' })
  .filter(path => path.length > 60).map(path => join(repository.dir, 'data', path))

if (tier(t, 'restic', newestRestic() !== null || 'no restic found')) {
  const restic = newestRestic()!
  for (const format of [1, 2] as const) {
    t.test(`a repository by restic ${restic.version}, format ${format}`, { timeout: 300_000 }, async t => {
      const scratch = makeScratch('loaders')
      t.teardown(() => removeScratch(scratch))
      const source = makeSource(join(scratch, 'source'))
      const repository = await ResticRepository.init(restic, join(scratch, 'repository'), { format })
      await repository.backup(['.'], { cwd: join(scratch, 'source') })
      const key = await openRepository(new LocalBackend(repository.dir), Buffer.from(repository.password))
      t.teardown(() => key.close())
      const right = new Map([...source.keys()].map(path => [path, null]))

      await t.test('every byte comes back, and every tree gets into the index', { timeout: 120_000 }, async t => {
        const loaders = await openLoaders(t, repository, key)
        t.strictSame(await readAll(loaders, source), right)
        await loaders.trees.fillInBackground()
        t.ok(loaders.trees.complete)
      })

      await t.test('files read on through a prune that moves everything', { timeout: 120_000 }, async t => {
        const loaders = await openLoaders(t, repository, key)
        const { snapshots: [{ tree }], trees, blobs } = loaders
        const large = (await walk(trees, tree)).get('/large') as Buffer[]
        const half = large.length >> 1
        const first = await read(blobs, large.slice(0, half))
        // A second backup shares everything but a file; then the first is forgotten, and packs are written anew.
        rmSync(join(scratch, 'source/d1'), { recursive: true })
        await repository.backup(['.'], { cwd: join(scratch, 'source') })
        await repository.forget('latest', '--keep-last', '1')
        await repository.prune('--max-unused', '0', ...(format === 2 ? ['--repack-small'] : []))
        const rest = await read(blobs, large.slice(half))
        t.ok(Buffer.concat([first, rest].map(part => Buffer.from(part))).equals(source.get('/large')!))
        for (const path of source.keys()) {
          if (!path.startsWith('/d1/')) continue
          source.delete(path)
          right.delete(path)
        }
      })

      await t.test('one damaged place in a pack costs what lies there, and nothing is ever wrong', { timeout: 240_000 }, async t => {
        const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)
        const next = random(seed)
        // Each kind once. Many more, seen through a mount: scripts/soak/damage.
        for (let round = 0; round < 5; round++) {
          const packs = packsOf(repository)
          const pack = packs[Math.floor(next() * packs.length)]
          const bytes = readFileSync(pack)
          const at = Math.floor(next() * bytes.length)
          const damage = ['flip', 'missing', 'surplus', 'cut', 'gone'][round % 5]
          if (damage === 'gone') rmSync(pack)
          else {
            const changed = damage === 'flip' ? Buffer.from(bytes) : damage === 'cut' ? bytes.subarray(0, at)
              : Buffer.concat([bytes.subarray(0, at), Buffer.alloc(damage === 'surplus' ? 1 : 0), bytes.subarray(damage === 'missing' ? at + 1 : at)])
            if (damage === 'flip') changed[at] ^= 1 << Math.floor(next() * 8)
            rmSync(pack)
            writeFileSync(pack, changed)
          }
          await t.test(`${damage} at ${at}`, { timeout: 60_000 }, async t => {
            const loaders = await openLoaders(t, repository, key)
            const verdicts = await readAll(loaders, source)
            const bad = [...verdicts.values()].filter(verdict => verdict !== null)
            t.strictSame(bad.filter(verdict => verdict !== 'ERR_CORRUPT' && verdict !== 'ERR_NOT_FOUND'), [], `seed ${seed} round ${round}`)
            await loaders.trees.fillInBackground()
          })
          rmSync(pack, { force: true })
          writeFileSync(pack, bytes)
        }
        const loaders = await openLoaders(t, repository, key)
        t.strictSame(await readAll(loaders, source), right, 'mended')
      })
    })
  }
}
