import { closeSync, openSync, readSync, rmSync } from 'node:fs'
import t, { type Test } from 'tap'
import { compare, dataSegments, describe, digest, type Entry } from '../fixtures/attribute-digest.js'
import { join } from '../fixtures/bytes.js'
import { KIB, makeEveryKind, MIB } from '../fixtures/every-kind.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { findRestics, lostBy, type Restic } from '../fixtures/restic.js'
import { installed, output } from '../fixtures/run.js'
import { tarDigest, type Tarred } from '../fixtures/tar-digest.js'
import { tier } from '../fixtures/tiers.js'

// Everything a backup holds comes back exactly. One directory with every kind of entry, backed up by several restics in both formats, is
// compared with its mount in three independent ways: by our own digest of attributes, by rsync, and by the bytes tar makes of it.
t.setTimeout(900_000)

const SPARSE_LENGTH = Number(process.env['DAYBOOK_SPARSE_GB'] ?? 10) * 1024 * MIB
/** 0.14 is what Debian 12 has, 0.18 Debian 13: they write differently. */
const SERIES = ['0.14', '0.18', '0.19']
/** restic cuts zeros into chunks of 512 KiB, so a hole loses less than that at either end. */
const HOLE_LOSS = 2 * 512 * KIB

if (mountTier(t)) await main()

async function main(): Promise<void> {
  const restics = findRestics()
  for (const series of SERIES) tier(t, `restic-${series}`, restics.some(restic => restic.series === series) || `no restic ${series} found`)
  const known = restics.filter(({ series }) => SERIES.includes(series))
  // Format 1 by the oldest, format 2 by each; without any of the known ones, whatever is installed.
  const combinations = (known.length ? known : restics.slice(-1)).flatMap((restic, n) => (n === 0 ? [1, 2] as const : [2] as const).map(format => ({ restic, format })))

  const place = new MountCase(t, 'db')
  const source = place.path('s')
  makeEveryKind(source, { sparseLength: SPARSE_LENGTH })
  const wanted = digest(source, { islandsOf: join(source) })
  // For the time it takes: the big sparse file is for the last one only (and not for tar, which would have to write its zeros); rsync, tar and remounts
  // are for the first and the last. $DAYBOOK_EXACTNESS=all leaves nothing out.
  const all = process.env['DAYBOOK_EXACTNESS'] === 'all'
  const wantedTar = await tarDigest(source, ['./holes/sparse'])
  t.comment(`${wanted.length} entries`)

  for (const combination of combinations) {
    const { restic, format } = combination
    const isFirst = combination === combinations[0], isLast = combination === combinations.at(-1)
    const left = isLast || all ? [] : ['holes/sparse']
    await t.test(`restic ${restic.version}, format ${format}`, async t => {
      const repository = await place.repository({ restic, format })
      await repository.backup([source], { args: left.map(path => `--exclude=${source}/${path}`) })
      const cacheDir = place.path('cache')
      const mounted = await place.mount(repository, { cacheDir })
      const copy = mounted.latest(source)
      const found = digest(copy, { islandsOf: join(source) })
      await t.test('attributes and contents', async t => same(t, compare(wanted.filter(({ path }) => !left.includes(path.toString())), found, { ignore: lostBy(restic) })))
      if (isFirst || isLast || all) {
        await t.test('rsync', t => sameByRsync(t, restic, source, copy, left))
        await t.test('tar', async t => sameTar(t, restic, wantedTar, await tarDigest(copy, ['./holes/sparse'])))
      }
      await t.test('holes', async t => sameHoles(t, source, copy, found))
      await t.test('directories above', async t => sameParents(t, source, mounted.latest()))
      await mounted.unmount()

      for (const how of isFirst || isLast || all ? ['after a remount', 'after a remount without the index'] : []) {
        if (how.endsWith('index')) rmSync(cacheDir, { recursive: true })
        await t.test(how, async t => {
          const again = await place.mount(repository, { cacheDir })
          const entries = digest(again.latest(source), { contents: false })
          same(t, compare(found.map(entry => ({ ...entry, content: null })), entries))
          t.same(entries.filter((entry, n) => entry.ino !== found[n]!.ino).slice(0, 10), [], 'inode numbers are the same')
          await again.unmount()
        })
      }
      rmSync(repository.dir, { recursive: true })
    })
  }
}

/** Shows the differences, up to a screenful. */
function same(t: Test, differences: string[]): void {
  t.same(differences.slice(0, 40), [], `${differences.length} differences`)
}

async function sameByRsync(t: Test, restic: Restic, source: string, copy: string, left: string[]): Promise<void> {
  if (!tier(t, 'rsync', await installed('rsync') || 'no rsync')) return
  const args = ['-aHAXn', '--checksum', '--delete', '--itemize-changes', ...left.map(path => `--exclude=/${path}`), `${source}/`, `${copy}/`]
  const lines = (await output('rsync', args)).toString('latin1').split('\n')
  same(t, lines.filter(line => line !== '' && !isLost(restic, line)))
}

function sameTar(t: Test, restic: Restic, wanted: Tarred, found: Tarred): void {
  const here = new Set(wanted.listing), there = new Set(found.listing)
  const differences = [...wanted.listing.filter(line => !there.has(line)).map(line => `missing ${line}`), ...found.listing.filter(line => !here.has(line)).map(line => `surplus ${line}`)]
  same(t, differences.filter(line => !isLost(restic, line)))
  if (!isLost(restic, 'symlinks/not-utf8')) t.equal(found.sha256, wanted.sha256, 'the archives are the same to the byte')
}

/** Does this line of rsync or tar speak of a link of which that restic loses something? */
function isLost(restic: Restic, line: string): boolean {
  const path = /symlinks\/[a-z0-9-]+|attributes\/link/.exec(line)?.[0]
  return path !== undefined && ['target', 'xattrs'].some(field => lostBy(restic)({ type: 'symlink', path: Buffer.from(path) }, field))
}

function sameHoles(t: Test, source: string, copy: string, entries: Entry[]): void {
  for (const { path, size: length, type } of entries) {
    const size = Number(length)
    if (type !== 'file' || !/^(holes|contents|large)\//.test(path.toString('latin1'))) continue
    const original = join(source, path), name = path.toString()
    const segments = dataSegments(join(copy, path))
    const holes = gaps(segments, size), originalHoles = gaps(dataSegments(original), size)
    for (const [start, end] of holes) t.ok(allZeros(original, start, end), `${name}: ${start} to ${end} is a hole and holds only zeros`)
    for (const [start, end] of originalHoles) {
      t.ok(overlap(holes, start, end) >= end - start - HOLE_LOSS, `${name}: the hole from ${start} to ${end} is one here, but for its ends (${overlap(holes, start, end)} bytes)`)
    }
    const data = segments.reduce((sum, [start, end]) => sum + end - start, 0), allocated = Number(describe(join(copy, path), path, { contents: false }).blocks) * 512
    t.ok(allocated >= data && allocated < data + 4096 * (segments.length + 1), `${name}: ${allocated} bytes allocated for ${data} of data`)
  }
}

function gaps(segments: [number, number][], size: number): [number, number][] {
  const edges = [0, ...segments.flat(), size]
  const holes: [number, number][] = []
  for (let n = 0; n < edges.length; n += 2) if (edges[n + 1]! > edges[n]!) holes.push([edges[n]!, edges[n + 1]!])
  return holes
}

function overlap(ranges: [number, number][], start: number, end: number): number {
  return ranges.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(to, end) - Math.max(from, start)), 0)
}

/** Reads only where the file has data. */
function allZeros(path: Buffer, start: number, end: number): boolean {
  const fd = openSync(path, 'r')
  const buffer = Buffer.alloc(MIB)
  try {
    for (const [from, to] of dataSegments(path)) {
      for (let offset = Math.max(from, start); offset < Math.min(to, end);) {
        const length = readSync(fd, buffer, 0, Math.min(MIB, Math.min(to, end) - offset), offset)
        if (buffer.subarray(0, length).some(byte => byte !== 0)) return false
        offset += length
      }
    }
  } finally {
    closeSync(fd)
  }
  return true
}

/** The way down to what was backed up: others work in those directories, so their times may differ. */
function sameParents(t: Test, source: string, snapshot: string): void {
  const names = source.split('/').slice(1, -1)
  for (let depth = 1; depth <= names.length; depth++) {
    const path = names.slice(0, depth).join('/')
    const wanted = describe(join('/', path), Buffer.from(path)), found = describe(join(snapshot, path), Buffer.from(path))
    for (const field of ['type', 'mode', 'uid', 'gid', 'xattrs'] as const) t.equal(found[field], wanted[field], `/${path}: ${field}`)
  }
}
