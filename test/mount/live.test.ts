import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, constants, existsSync, openSync, opendirSync, readdirSync, readFileSync, readlinkSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ChangingSource, dayName, LiveRepository, randomOperation } from '../fixtures/live.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { eventually } from '../fixtures/run.js'
import { seeded } from '../fixtures/seeded.js'

// Snapshots come and go while files are open and being copied: no error, no stale `latest`, the right bytes. A longer run: scripts/soak/live.
t.setTimeout(600_000)
process.env['TZ'] = 'UTC'

if (mountTier(t)) {
  const place = new MountCase(t, 'dl')

  const begin = async (name: string, args: string[]) => {
    const repository = await place.repository({ name })
    const live = new LiveRepository(repository, new ChangingSource(place.path(`${name}-source`)))
    for (let n = 0; n < 4; n++) await live.add()
    const mounted = await place.mount(repository, { args })
    return { repository, live, mounted, list: () => readdirSync(mounted.days) }
  }

  await t.test('one thing after the other', async t => {
    const { live, mounted, list } = await begin('steps', ['--poll', '0'])
    const settle = () => live.settle(mounted, list)
    const mtime = () => statSync(mounted.days, { bigint: true }).mtimeNs
    await settle()
    const inoOf = (n: number) => statSync(join(mounted.days, dayName(n), 'sub/data-0'), { bigint: true }).ino
    const before = inoOf(1)

    await t.test('a new snapshot appears, and is the latest', async t => {
      const then = mtime()
      t.equal(readlinkSync(mounted.latest()), dayName(3))
      await live.add()
      t.same(list().sort(), [0, 1, 2, 3].map(dayName).concat('latest'), 'not before the mount looks for it')
      await settle()
      t.equal(readlinkSync(mounted.latest()), dayName(4))
      t.not(mtime(), then, 'the list has another modification time')
    })

    await t.test('nothing new, nothing changed', async t => {
      const then = mtime()
      mounted.refresh()
      await settle()
      t.equal(mtime(), then)
    })

    await t.test('a tagged snapshot keeps its name and its inodes, though its id is another', async t => {
      await live.tag(1)
      // seen together with a new day, so that it is certain that the mount has looked
      await live.add()
      await settle()
      t.same(list().sort(), [0, 1, 2, 3, 4, 5].map(dayName).concat('latest'))
      t.equal(inoOf(1), before)
    })

    await t.test('a directory handle stays good across changes', async t => {
      const handle = opendirSync(mounted.days, { bufferSize: 1 }), inside = opendirSync(mounted.latest('sub'), { bufferSize: 1 })
      const first = handle.readSync()!.name
      const firstInside = inside.readSync()!.name
      await live.add()
      await live.forget(0)
      await settle()
      const names = [first], namesInside = [firstInside]
      for (let entry = handle.readSync(); entry; entry = handle.readSync()) names.push(entry.name)
      for (let entry = inside.readSync(); entry; entry = inside.readSync()) namesInside.push(entry.name)
      handle.closeSync()
      inside.closeSync()
      t.equal(new Set(names).size, names.length, 'no name twice')
      for (const n of [1, 2, 3, 4, 5]) t.ok(names.includes(dayName(n)), `${dayName(n)}, which was there all the time, is listed`)
      t.same(namesInside.sort(), [0, 1, 2, 3, 4, 5].map(n => `data-${n}`))
    })

    await t.test('a file stays readable when its snapshot is forgotten', async t => {
      const fd = openSync(join(mounted.days, dayName(1), 'big'), constants.O_RDONLY | constants.O_DIRECT)
      const hash = createHash('sha256'), buffer = Buffer.alloc(500_000)
      const read = () => {
        const length = readSync(fd, buffer)
        hash.update(buffer.subarray(0, length))
        return length
      }
      read()
      await live.forget(1)
      await settle()
      while (read() > 0);
      closeSync(fd)
      t.equal(`file ${hash.digest('hex')}`, live.source.held(1)['big'])
    })

    await t.test('the newest is forgotten: latest goes back', async t => {
      await live.forget(6)
      await settle()
      t.equal(readlinkSync(mounted.latest()), dayName(5))
    })

    await t.test('pruned: what is left is in other packs, and read from there', async t => {
      const fd = openSync(join(mounted.days, dayName(3), 'big'), constants.O_RDONLY | constants.O_DIRECT)
      const packs = readdirSync(join(live.repository.dir, 'data'), { recursive: true }).length
      await live.forget(2, true)
      t.comment(`${packs} packs before, ${readdirSync(join(live.repository.dir, 'data'), { recursive: true }).length} after`)
      const hash = createHash('sha256'), buffer = Buffer.alloc(500_000)
      for (let length = readSync(fd, buffer); length > 0; length = readSync(fd, buffer)) hash.update(buffer.subarray(0, length))
      closeSync(fd)
      t.equal(`file ${hash.digest('hex')}`, live.source.held(3)['big'], 'even before the mount was told')
      await settle()
    })

    t.same(live.problems, [], 'every file of every day was right after each of these')
  })

  // The number of a forgotten day's directory was given to the next snapshot while the kernel still held the old one: `cat NEW/file` gave the old day's file.
  await t.test('a forgotten day which somebody still uses is not taken for another', async t => {
    const { live, mounted, list } = await begin('held', ['--poll', '0'])
    const gone = join(mounted.days, dayName(0))
    const inside = spawn('sleep', ['1000'], { cwd: gone })
    t.teardown(() => { inside.kill() })
    const held = openSync(join(mounted.days, dayName(1), 'sub'), constants.O_RDONLY | constants.O_DIRECTORY)
    await live.forget(0)
    await live.forget(1)
    await live.settle(mounted, list)
    t.equal(readFileSync(join(gone, 'marker'), 'utf8'), '0', 'for a moment it can still be found')
    await eventually('it cannot be found any more', () => !existsSync(gone))
    // A second later the number of a directory which nobody holds is free: whoever comes then gets it.
    for (let n = 0; n < 3; n++) {
      await live.add()
      await live.tag(live.newest)
      await live.settle(mounted, list)
    }
    for (const n of live.days) t.equal(readFileSync(join(mounted.days, dayName(n), 'marker'), 'utf8'), String(n), dayName(n))
    t.same(live.problems, [])
    const cwd = `/proc/${inside.pid}/cwd`
    t.ok(readdirSync(cwd).includes('marker'), 'who is inside can list it')
    t.equal(readFileSync(join(cwd, 'only-0'), 'utf8'), 'only on day 0', 'and read what was not read before')
    t.equal(`file ${createHash('sha256').update(readFileSync(join(cwd, 'sub/data-1'))).digest('hex')}`, live.source.held(0)['sub/data-1'], 'below, too')
    t.equal(`file ${createHash('sha256').update(readFileSync(`/proc/self/fd/${held}/data-1`)).digest('hex')}`, live.source.held(1)['sub/data-1'], 'or is in a directory further down')
    closeSync(held)
    inside.kill()
  })

  await t.test('all at once, with readers at work', async t => {
    const { seed, random } = seeded()
    t.comment(`SEED=${seed}`)
    const { live, mounted, list } = await begin('random', ['--poll', '0'])
    live.watchLatest(mounted)
    for (const n of live.days) live.readBig(mounted, n)
    for (let step = 0; step < 12; step++) {
      t.comment(await randomOperation(live, random))
      await live.settle(mounted, list)
    }
    await live.stopReaders()
    t.same(live.problems, [], `${live.readCount} reads meanwhile`)
    t.equal(mounted.exit, null, 'the mount is alive')
  })

  await t.test('without being told, at the next look', async t => {
    const { live, mounted, list } = await begin('poll', ['--poll', '1'])
    await live.add()
    await eventually('the new day is there', () => list().includes(dayName(4)))
    await live.forget(0)
    await eventually('the forgotten one is gone', () => !list().includes(dayName(0)))
    await live.settle(mounted, list)
    t.same(live.problems, [])
  })
}
