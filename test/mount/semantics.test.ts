import { createHash } from 'node:crypto'
import {
  chmodSync, constants, lstatSync, lutimesSync, mkdirSync, readdirSync, readFileSync, readlinkSync, realpathSync, rmSync, statfsSync, statSync, symlinkSync, utimesSync, writeFileSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { digest } from '../fixtures/attribute-digest.js'
import { randomBytes, textBytes } from '../fixtures/bytes.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import type { MountProcess } from '../fixtures/mount-process.js'
import type { ResticRepository } from '../fixtures/restic.js'
import { eventually, installed, output, run, shell } from '../fixtures/run.js'
import { seeded } from '../fixtures/seeded.js'
import { tier } from '../fixtures/tiers.js'

// The promises of src/fs/SEMANTICS.md, each above the tests that prove it.
t.setTimeout(300_000)
const ZONE = 'Europe/Berlin'
process.env['TZ'] = ZONE

if (mountTier(t)) await main()

async function main(): Promise<void> {
  const place = new MountCase(t, 'dm')
  const source = place.path('s')
  mkdirSync(join(source, 'home/anna'), { recursive: true })
  mkdirSync(join(source, 'home/bert'))
  mkdirSync(join(source, 'empty'))
  writeFileSync(join(source, 'home/anna/letter.txt'), 'dear')
  writeFileSync(join(source, 'home/bert/secret'), 'secret')
  symlinkSync('../bert/secret', join(source, 'home/anna/to-bert'))
  symlinkSync('/etc/hostname', join(source, 'home/anna/to-etc'))
  symlinkSync('home', join(source, 'house'))
  chmodSync(join(source, 'home/anna'), 0o2750)
  lutimesSync(join(source, 'home/anna'), 1_234_567_890, 1_234_567_890)

  const make = (name: string) => place.repository({ name })
  const backup = (repository: ResticRepository, time: string, options: { host?: string, tags?: string[] } = {}) => repository.backup(['.'], { time, cwd: source, ...options })
  const mounting = async <T>(repository: ResticRepository, args: string[], use: (mounted: MountProcess) => T | Promise<T>, cacheDir?: string): Promise<T> => {
    const mounted = await place.mount(repository, { args: ['--poll', '0', ...args], cacheDir })
    try {
      return await use(mounted)
    } finally {
      await mounted.unmount()
    }
  }
  const refreshed = async (mounted: MountProcess, wanted: string[]) => {
    mounted.refresh()
    await eventually(`the list is ${wanted.join(' ')}`, () => JSON.stringify(readdirSync(mounted.dir)) === JSON.stringify(wanted))
  }

  // Days. Every snapshot is a directory, named after the local day on which it was made: `2026-11-20`. The first snapshot of a day has the plain
  // name; further ones of that day are `2026-11-20T17-30-00`, the local time. All of them are listed, oldest first.
  //
  // Names keep their meaning. While its snapshot exists, a name stands for that snapshot: after a remount, when other snapshots of the same day
  // appear or go, and when the local index is deleted as long as no snapshot has come or gone meanwhile. A snapshot that is tagged anew keeps its name, though its id is another.
  await t.test('days', async t => {
    const repository = await make('days')
    const noted = async (time: string) => {
      writeFileSync(join(source, 'note'), time)
      return (await backup(repository, time)).id
    }
    // Half past midnight in Berlin is the day before in UTC.
    await noted('2026-07-01 00:30:00')
    const first = await noted('2026-07-02 08:00:00')
    await noted('2026-07-02 17:30:00')
    const names = ['2026-07-01', '2026-07-02', '2026-07-02T17-30-00']
    const cacheDir = place.path('days-cache')
    const meaning = (mounted: MountProcess) => Object.fromEntries(readdirSync(mounted.dir).map(name => [name, readFileSync(join(mounted.dir, name, 'note'), 'utf8')]))
    await mounting(repository, [], async mounted => {
      t.same(readdirSync(mounted.dir), [...names, 'latest'])
      t.same(meaning(mounted), {
        '2026-07-01': '2026-07-01 00:30:00', '2026-07-02': '2026-07-02 08:00:00', '2026-07-02T17-30-00': '2026-07-02 17:30:00', 'latest': '2026-07-02 17:30:00',
      })

      await noted('2026-07-02 06:00:00')
      await refreshed(mounted, ['2026-07-01', '2026-07-02', '2026-07-02T06-00-00', '2026-07-02T17-30-00', 'latest'])
      t.equal(meaning(mounted)['2026-07-02'], '2026-07-02 08:00:00', 'an earlier one of that day does not take the name')
      await repository.forget(first)
      await refreshed(mounted, ['2026-07-01', '2026-07-02T06-00-00', '2026-07-02T17-30-00', 'latest'])
      t.equal(meaning(mounted)['2026-07-02T17-30-00'], '2026-07-02 17:30:00', 'nor does a later one take a name that became free')
    }, cacheDir)
    await mounting(repository, [], mounted => {
      t.same(readdirSync(mounted.dir), ['2026-07-01', '2026-07-02T06-00-00', '2026-07-02T17-30-00', 'latest'], 'the same names after a remount')
      t.equal(meaning(mounted)['2026-07-02T06-00-00'], '2026-07-02 06:00:00')
    }, cacheDir)
    rmSync(cacheDir, { recursive: true })
    await mounting(repository, [], async mounted => {
      const before = meaning(mounted)
      await repository.run('tag', '--add', 'kept', 'latest')
      await backup(repository, '2026-07-03 12:00:00')
      await refreshed(mounted, [...Object.keys(before).filter(name => name !== 'latest'), '2026-07-03', 'latest'].sort())
      for (const [name, note] of Object.entries(before)) if (name !== 'latest') t.equal(meaning(mounted)[name], note, `${name} after a tag`)
    }, cacheDir)
  })

  // latest. A relative symlink to the newest snapshot. It changes in one step and never dangles: at every moment it leads to one whole day.
  // Programs that want one state from beginning to end resolve it once (`cd -P`, `readlink -f`) and stay in that day.
  await t.test('latest', async t => {
    const repository = await make('latest')
    await mounting(repository, [], async mounted => {
      t.same(readdirSync(mounted.dir), [], 'no snapshot: no latest either')
      t.throws(() => lstatSync(mounted.latest()), { code: 'ENOENT' })
      await backup(repository, '2026-07-05 12:00:00')
      await backup(repository, '2026-07-04 12:00:00')
      await refreshed(mounted, ['2026-07-04', '2026-07-05', 'latest'])
      t.equal(readlinkSync(mounted.latest()), '2026-07-05', 'the newest by its time, not by when it was stored')
      t.equal(lstatSync(mounted.latest()).size, '2026-07-05'.length)
      const resolved = realpathSync(mounted.latest())
      const before = lstatSync(mounted.latest(), { bigint: true }).ino
      await backup(repository, '2026-07-06 12:00:00')
      await refreshed(mounted, ['2026-07-04', '2026-07-05', '2026-07-06', 'latest'])
      await eventually('latest is the new one', () => readlinkSync(mounted.latest()) === '2026-07-06')
      t.not(lstatSync(mounted.latest(), { bigint: true }).ino, before, 'another target is another inode')
      t.ok(statSync(join(resolved, 'home')).isDirectory(), 'what was resolved before stays')
    })
  })

  // Several hosts. Where the repository holds snapshots of more than one host, each host has a directory of its own with its days and its `latest`.
  // If a second host appears while the tree is mounted, the days of the first stay where they are until the next mount.
  await t.test('several hosts', async t => {
    const repository = await make('hosts')
    await backup(repository, '2026-07-01 12:00:00', { host: 'web1' })
    await mounting(repository, [], async mounted => {
      t.same(readdirSync(mounted.dir), ['2026-07-01', 'latest'])
      await backup(repository, '2026-07-02 12:00:00', { host: 'web2' })
      await backup(repository, '2026-07-03 12:00:00', { host: 'web1' })
      await refreshed(mounted, ['2026-07-01', '2026-07-03', 'latest', 'web2'])
      t.equal(readlinkSync(mounted.latest()), '2026-07-03')
      t.same(readdirSync(join(mounted.dir, 'web2')), ['2026-07-02', 'latest'])
    })
    await mounting(repository, [], mounted => {
      t.same(readdirSync(mounted.dir), ['web1', 'web2'])
      t.same(readdirSync(join(mounted.dir, 'web1')), ['2026-07-01', '2026-07-03', 'latest'])
      t.equal(readlinkSync(join(mounted.dir, 'web1/latest')), '2026-07-03')
      t.equal(readlinkSync(join(mounted.dir, 'web2/latest')), '2026-07-02')
    })

    // Which snapshots. `--host`, `--tag`, `--path` and `--snapshot` leave out all others. What is left out is neither listed nor found by its name.
    const { id } = await backup(repository, '2026-07-04 12:00:00', { host: 'web1', tags: ['daily', 'a/b'] })
    const filters: [string[], string[]][] = [
      [['--host', 'web2'], ['2026-07-02', 'latest']],
      [['--host', 'web1'], ['2026-07-01', '2026-07-03', '2026-07-04', 'latest']],
      [['--tag', 'daily'], ['2026-07-04', 'latest']],
      [['--tag', 'daily', '--host', 'web2'], []],
      [['--snapshot', id], ['2026-07-04', 'latest']],
      [['--snapshot', 'latest'], ['2026-07-04', 'latest']],
      [['--path', source], ['web1', 'web2']],
      [['--path', '/nowhere'], []],
    ]
    for (const [args, wanted] of filters) {
      await mounting(repository, args, mounted => {
        t.same(readdirSync(mounted.dir), wanted, args.join(' '))
        for (const name of ['2026-07-01', '2026-07-02', '2026-07-04', 'web1']) {
          if (!wanted.includes(name)) t.throws(() => lstatSync(join(mounted.dir, name)), { code: 'ENOENT' }, `${args.join(' ')}: no ${name}`)
        }
      })
    }

    // The layout of restic. With `--layout restic` there are `ids/`, `snapshots/`, `hosts/<host>/` and `tags/<tag>/` with names as in `restic mount`, `latest` included.
    // A host or tag that is no file name has `_` for what cannot be in one.
    await mounting(repository, ['--layout', 'restic'], mounted => {
      t.same(readdirSync(mounted.dir), ['hosts', 'ids', 'snapshots', 'tags'])
      t.same(readdirSync(join(mounted.dir, 'hosts')), ['web1', 'web2'])
      t.same(readdirSync(join(mounted.dir, 'hosts/web2')), ['2026-07-02T12:00:00+02:00', 'latest'])
      t.equal(readlinkSync(join(mounted.dir, 'hosts/web2/latest')), '2026-07-02T12:00:00+02:00')
      t.equal(readdirSync(join(mounted.dir, 'snapshots')).length, 5)
      t.equal(readlinkSync(join(mounted.dir, 'snapshots/latest')), '2026-07-04T12:00:00+02:00')
      t.same(readdirSync(join(mounted.dir, 'tags')), ['a_b', 'daily'])
      t.ok(readdirSync(join(mounted.dir, 'ids')).includes(id.slice(0, 8)))
      t.equal(readFileSync(join(mounted.dir, 'ids', id.slice(0, 8), 'home/anna/letter.txt'), 'utf8'), 'dear')
    })
    if (tier(t, 'root', process.getuid!() === 0 || 'not root')) {
      const names = (mounted: MountProcess) => ['snapshots', 'hosts/web1', 'hosts/web2', 'tags/daily', 'ids'].flatMap(dir => readdirSync(join(mounted.dir, dir)).sort().map(name => `${dir}/${name}`))
      const ours = await mounting(repository, ['--layout', 'restic'], names)
      const theirs = await place.mount(repository, { program: 'restic' })
      t.same(ours, names(theirs), 'the same names as restic mount')
      await theirs.unmount('SIGINT')
    }
  })

  // A subtree. With `--subtree PATH` each day is the directory at PATH in its snapshot, with that directory's own attributes. Nothing outside of it can be reached: not by
  // `..`, which leads to the list of days, and not by symlinks inside, which are what they were (an absolute one leads to wherever it leads on this machine). PATH itself is not
  // looked up through symlinks. Snapshots without that directory are not shown.
  await t.test('subtree', async t => {
    const repository = await make('subtree')
    await repository.backup(['empty'], { time: '2026-07-01 12:00:00', cwd: source })
    await backup(repository, '2026-07-02 12:00:00')
    await mounting(repository, ['--subtree', '/home/anna'], mounted => {
      t.same(readdirSync(mounted.dir), ['2026-07-02', 'latest'], 'not the day on which it did not exist')
      const day = join(mounted.dir, '2026-07-02')
      t.same(readdirSync(day), ['letter.txt', 'to-bert', 'to-etc'])
      const { mode, mtimeMs } = statSync(day)
      t.same([mode & 0o7777, mtimeMs], [0o2750, 1_234_567_890_000], 'attributes of the directory')
      t.throws(() => readFileSync(join(day, 'to-bert')), { code: 'ENOENT' }, 'a link out of it leads nowhere')
      t.equal(readlinkSync(join(day, 'to-etc')), '/etc/hostname')
      for (const path of ['../bert/secret', '../home/bert/secret', '../../home', 'home', '../2026-07-01', '../latest/../../home/bert/secret']) {
        t.throws(() => lstatSync(`${day}/${path}`), { code: 'ENOENT' }, path)
      }
      t.equal(statSync(`${day}/..`).ino, statSync(mounted.dir).ino)
    })
    for (const path of ['/house/anna', '/home/nobody', '/home/anna/letter.txt']) {
      await mounting(repository, ['--subtree', path], mounted => { t.same(readdirSync(mounted.dir), [], path) })
    }
    for (const path of ['/home/anna/../bert', '/home/./anna', 'home/anna', '/home//anna/']) {
      const shown = await mounting(repository, ['--subtree', path], mounted => readdirSync(join(mounted.dir, 'latest'))).catch(error => String(error.message))
      t.ok(typeof shown === 'string' || !shown.includes('secret') || path.includes('..'), `${path}: ${shown}`)
    }
  })

  // Owner. With `--owner UID:GID` everything belongs to that user and group, the list of days included. Modes stay.
  await t.test('owner', async t => {
    const repository = await make('owner')
    await backup(repository, '2026-07-01 12:00:00')
    await mounting(repository, ['--owner', '12345:54321'], mounted => {
      for (const { path, uid, gid } of digest(mounted.dir)) t.same([uid, gid], [12_345, 54_321], path.toString() || '.')
      t.equal(statSync(mounted.latest('home/anna')).mode & 0o7777, 0o2750)
    })

    // Without `--allow-other` only the user who mounted gets in, and reads everything. With it the kernel checks modes, owners and ACLs as recorded (or as given by `--owner`).
    if (!tier(t, 'setpriv', await installed('setpriv') || 'no setpriv')) return
    chmodSync(place.dir, 0o755)
    const as = async (uid: number, command: string) => (await run('setpriv', ['--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--', 'sh', '-c', command])).code
    await mounting(repository, [], async mounted => {
      t.not(await as(12_345, `ls ${mounted.dir}`), 0, 'not allowed in')
    })
    await mounting(repository, ['--allow-other', '--owner', '12345:12345'], async mounted => {
      t.equal(await as(12_345, `cat ${mounted.latest('home/anna/letter.txt')}`), 0, 'the owner')
      t.not(await as(23_456, `cat ${mounted.latest('home/anna/letter.txt')}`), 0, 'somebody else, where the mode says no')
      t.equal(await as(23_456, `ls ${mounted.latest('home')}`), 0, 'somebody else, where it says yes')
    })
  })

  await t.test('entries', async t => {
    const repository = await make('entries')
    writeFileSync(join(source, 'Case'), 'upper')
    writeFileSync(join(source, 'case'), 'lower')
    writeFileSync(join(source, '\u00e9'), 'composed')
    for (const name of ['b', 'a', 'a.', 'aa', 'B', '\u{1f600}', '\uffff']) writeFileSync(join(source, 'empty', name), name)
    utimesSync(join(source, 'case'), 1_000_000_000, 1_100_000_000)
    await backup(repository, '2026-07-01 12:00:00')
    writeFileSync(join(source, 'note'), 'changed')
    writeFileSync(join(source, 'empty/b'), 'changed')
    await repository.backup(['.'], { time: '2026-07-02 12:00:00', cwd: source, args: ['--with-atime'] })
    const cacheDir = place.path('entries-cache')
    const inodes = (mounted: MountProcess) => digest(mounted.dir, { contents: false }).map(({ path, ino }) => `${path.toString('latin1')} ${ino}`)

    const before = await mounting(repository, [], async mounted => {
      const first = (name: string) => join(mounted.dir, '2026-07-01', name), second = (name: string) => join(mounted.dir, '2026-07-02', name)
      const ino = (path: string) => BigInt.asUintN(64, lstatSync(path, { bigint: true }).ino)

      // Access time. The one recorded with `restic backup --with-atime`, else the modification time, which is what restic then writes. Reading does not change it.
      t.equal(statSync(first('case')).atimeMs, 1_100_000_000_000)
      t.equal(statSync(second('case')).atimeMs, statSync(join(source, 'case')).atimeMs)
      readFileSync(first('case'))
      t.equal(statSync(first('case')).atimeMs, 1_100_000_000_000)

      // Directories have a link count of 1 (do not conclude a number of subdirectories from it) and a size that means nothing.
      for (const path of [mounted.dir, join(mounted.dir, '2026-07-01'), first('home'), first('empty')]) t.equal(statSync(path).nlink, 1)

      // Inode numbers are the same after a remount and after the local index was rebuilt. A file which did not change from one snapshot to the next has the same number in both; hard
      // links share one, in whatever directories they are; different files of one snapshot do not.
      t.equal(ino(first('case')), ino(second('case')), 'unchanged')
      t.not(ino(first('note')), ino(second('note')), 'changed')
      t.not(ino(first('home')), ino(second('home')), 'directories have one each')
      const inos = digest(first(''), { contents: false }).map(entry => entry.ino)
      t.equal(new Set(inos).size, inos.length, 'no two alike in one snapshot')
      const listed = String(await shell('ls -iU "$DIR"', { env: { ...process.env, DIR: first('') } }))
      for (const entry of readdirSync(first(''))) t.match(listed, `${ino(first(entry))} ${entry}\n`, 'readdir and stat agree')

      // A name is bytes. Names are compared byte by byte: no case folding, no Unicode normalisation.
      t.equal(readFileSync(first('Case'), 'utf8'), 'upper')
      t.equal(readFileSync(first('case'), 'utf8'), 'lower')
      t.throws(() => readFileSync(first('CASE')), { code: 'ENOENT' })
      t.throws(() => readFileSync(first('e\u0301')), { code: 'ENOENT' })

      // Order. A directory is listed in the order of the bytes of its names, completely and without repetition, whatever happens meanwhile.
      t.same(String(await shell('ls -f "$DIR" | grep -vx "\\.\\.*"', { env: { ...process.env, DIR: first('empty') } })).trim().split('\n'), ['B', 'a', 'a.', 'aa', 'b', '\uffff', '\u{1f600}'])
      return inodes(mounted)
    }, cacheDir)
    await mounting(repository, [], mounted => { t.same(inodes(mounted), before, 'inode numbers after a remount') }, cacheDir)
    rmSync(cacheDir, { recursive: true })
    await mounting(repository, [], mounted => { t.same(inodes(mounted), before, 'and without the index') }, cacheDir)
  })

  // Reads return what was asked for, up to the end of the file: at any offset, in any order, by any number of readers at once, mapped into memory, with O_DIRECT.
  await t.test('reads', async t => {
    const { seed, random } = seeded()
    t.comment(`SEED=${seed}`)
    const repository = await make('reads')
    const content = Buffer.concat([randomBytes('reads', 9_000_001), Buffer.alloc(2_500_000), textBytes('reads', 3_000_003)])
    writeFileSync(join(source, 'read-me'), content)
    await backup(repository, '2026-07-01 12:00:00')
    await mounting(repository, [], async mounted => {
      const path = mounted.latest('read-me')
      for (const [how, flags] of [['with O_DIRECT', constants.O_DIRECT], ['through the page cache', 0]] as const) {
        const handle = await open(path, constants.O_RDONLY | flags)
        const read = async (offset: number, length: number) => {
          const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, offset)
          const wanted = content.subarray(offset, offset + length)
          // A read may be shorter than asked for only at the end of the file.
          if (bytesRead !== wanted.length || !buffer.subarray(0, bytesRead).equals(wanted)) t.fail(`${how}: ${length} bytes at ${offset}`)
        }
        const offset = () => Math.floor(random() * (content.length + 10_000)), length = () => Math.ceil(random() ** 4 * 2_000_000)
        for (let round = 0; round < 10; round++) await Promise.all(Array.from({ length: 16 }, () => read(offset(), length())))
        for (let n = 20; n > 0; n--) await read(n * 400_000, 400_000)
        await read(content.length - 1, 100)
        await read(content.length, 100)
        await read(content.length + 2 ** 40, 100)
        await handle.close()
      }
      const copies = await Promise.all(Array.from({ length: 4 }, () => output('cat', [path])))
      t.ok(copies.every(copy => copy.equals(content)), 'four readers at once')
      // git maps files of this size
      t.equal((await output('git', ['hash-object', '--no-filters', path])).toString().trim(), createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex'), 'mapped')

      // File system figures. statfs reports what the newest snapshot holds as used and nothing as free.
      const { bsize, blocks, bfree, bavail } = statfsSync(mounted.dir)
      t.ok(bsize * blocks >= content.length && bsize * blocks < content.length + 1_000_000 && bfree === 0 && bavail === 0, `${blocks} blocks of ${bsize}`)
    })
  })
}
