import { chmodSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { parseTarget } from '../../src/cli/ls.js'
import { permissions } from '../../src/cli/ls-format.js'
import { exactTime, localFileTime } from '../../src/cli/times.js'
import { daybook } from '../fixtures/mount-process.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { run } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'

t.setTimeout(120_000)

t.test('targets', async t => {
  for (const [target, name, path] of [
    ['latest', 'latest', ''], ['latest:', 'latest', ''], ['2026-11-18:/home/anna', '2026-11-18', 'home/anna'], ['4bba:a:b', '4bba', 'a:b'], ['x://a//./b/', 'x', 'a/b'], ['x:/..', 'x', '..'],
  ]) t.same([parseTarget(target).name, parseTarget(target).parts.join('/')], [name, path], target)
})

t.test('permissions', async t => {
  for (const [mode, text] of [
    [0o100644, '-rw-r--r--'], [0o040755, 'drwxr-xr-x'], [0o120777, 'lrwxrwxrwx'], [0o104755, '-rwsr-xr-x'], [0o104644, '-rwSr--r--'], [0o102755, '-rwxr-sr-x'],
    [0o102645, '-rw-r-Sr-x'], [0o041777, 'drwxrwxrwt'], [0o041776, 'drwxrwxrwT'], [0o010600, 'prw-------'], [0o060660, 'brw-rw----'], [0o020666, 'crw-rw-rw-'], [0o140000, 's---------'], [0, '?---------'],
  ] as const) t.equal(permissions(mode), text)
})

t.test('times, also those that no calendar holds', async t => {
  t.equal(exactTime([0n, 0]), '1970-01-01T00:00:00.000000000Z')
  t.equal(exactTime([-1n, 999999999]), '1969-12-31T23:59:59.999999999Z')
  t.equal(exactTime([1n << 62n, 5]), '@4611686018427387904.000000005')
  t.equal(localFileTime([-(1n << 62n), 0]), '@-4611686018427387904')
})

if (tier(t, 'restic', newestRestic() !== null || 'no restic found')) t.test('a snapshot of a repository', withRestic)

async function withRestic(t: Test): Promise<void> {
  const dir = makeScratch('ls')
  t.teardown(() => removeScratch(dir))
  const tree = `${dir}/tree`
  mkdirSync(`${tree}/sub/deep`, { recursive: true })
  writeFileSync(`${tree}/plain`, 'x'.repeat(1234))
  writeFileSync(`${tree}/sub/deep/leaf`, '')
  writeFileSync(`${tree}/sub/new\nline\x1b[31m`, '')
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/sub/bad`), Buffer.from([0xff])]), '')
  symlinkSync('plain', `${tree}/link`)
  chmodSync(`${tree}/plain`, 0o4751)
  utimesSync(`${tree}/plain`, 1e9, 1e9)
  const repo = await ResticRepository.init(newestRestic()!, `${dir}/repo`)
  const { id } = await repo.backup(['.'], { time: '2026-11-18 10:00:00', cwd: tree })
  writeFileSync(`${tree}/later`, '')
  await repo.backup(['.'], { time: '2026-11-19 10:00:00', cwd: tree })
  const cli = (args: string[]) => run(daybook, ['--cache-dir', `${dir}/cache`, 'ls', ...args], { env: { ...repo.env, TZ: 'UTC' } })
  const out = async (...args: string[]) => {
    const { code, stdout, stderr } = await cli(args)
    t.equal(code, 0, `${args.join(' ')}: ${stderr}`)
    return stdout
  }

  await t.test('snapshots are named by day, id, its beginning, or latest', async t => {
    for (const name of ['2026-11-18', id, id.slice(0, 6), id.slice(0, 6).toUpperCase()]) t.equal((await out(name)).toString(), 'link\nplain\nsub\n', name)
    t.equal((await out('latest')).toString(), 'later\nlink\nplain\nsub\n')
    for (const [target, message] of [
      ['2026-11-17', /^daybook: no snapshot 2026-11-17\nhint: /], ['', /no snapshot/], ['latest:/nothing', /has no \/nothing/], ['latest:/plain/x', /\/plain is not a directory/], ['latest:sub/deep/leaf/x', /\/sub\/deep\/leaf is not a directory/],
    ] as const) {
      const { code, stderr, stdout } = await cli([target])
      t.equal(code, 2, target)
      t.equal(stdout.length, 0, target)
      t.match(stderr, message, target)
    }
    const { code, stderr } = await cli(['--host', 'other', 'latest'])
    t.equal(code, 2)
    t.match(stderr, /no snapshot matches/)
  })

  await t.test('paths, recursion, and single files', async t => {
    t.equal((await out('latest:/sub/deep/')).toString(), 'leaf\n')
    t.equal((await out('latest:plain')).toString(), 'plain\n')
    t.equal((await out('-R', 'latest:/sub/deep')).toString(), '/sub/deep/leaf\n')
    const paths = (await out('-R0', 'latest')).toString('latin1').split('\0')
    t.equal(paths.pop(), '')
    t.same(paths, ['/later', '/link', '/plain', '/sub', '/sub/bad\xff', '/sub/deep', '/sub/deep/leaf', '/sub/new\nline\x1b[31m'])
  })

  await t.test('long', async t => {
    t.match((await out('-l', 'latest:plain')).toString(), /^-rwsr-x--x +1 +\d+ +\d+ +1234 2001-09-09 01:46:40 plain\n$/)
    t.match((await out('-l', 'latest')).toString(), /^lrwxrwxrwx .* link -> plain$/m)
  })

  await t.test('names are bytes in a pipe, and harmless on a terminal', async t => {
    t.ok((await out('latest:sub')).includes(Buffer.from('new\nline\x1b[31m\n')), 'as they are')
    t.ok((await out('latest:sub')).includes(Buffer.from([0x64, 0xff, 0x0a])))
    const { stdout } = await run('script', ['-qec', `"${daybook}" --cache-dir ${dir}/cache ls latest:sub`, '/dev/null'], { env: repo.env })
    t.equal(stdout.toString('latin1'), 'bad\\377\r\ndeep\r\nnew\\nline\\033[31m\r\n')
  })

  await t.test('JSON: an object per line, with the bytes of what is not UTF-8', async t => {
    const lines = async (...args: string[]) => (await out('--json', ...args)).toString().trim().split('\n').map(line => JSON.parse(line))
    t.match(await lines('latest:plain'), [{ message_type: 'node', name: 'plain', type: 'file', path: '/plain', size: 1234, st_mode: 0o104751, permissions: '-rwsr-x--x', mtime: '2001-09-09T01:46:40.000000000Z' }])
    const [bad, deep, control] = await lines('latest:sub')
    t.match(bad, { name: 'bad\ufffd', name_base64: Buffer.from([0x62, 0x61, 0x64, 0xff]).toString('base64'), path_base64: String })
    t.match(deep, { type: 'dir', name_base64: undefined })
    t.match(control, { name: 'new\nline\x1b[31m', name_base64: undefined })
    t.match(await lines('latest:link'), [{ type: 'symlink', linktarget: 'plain' }])
  })
}
