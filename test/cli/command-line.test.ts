import { mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { daybook, projectRoot } from '../fixtures/mount-process.js'
import { run } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'

t.setTimeout(120_000)
const dir = makeScratch('command-line')
t.teardown(() => removeScratch(dir))

/** Nothing of restic's from whoever runs the tests. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('RESTIC_') && name !== 'DAYBOOK_DEBUG'))
const cli = async (args: string[], more: NodeJS.ProcessEnv = {}) => {
  const { code, stdout, stderr } = await run(daybook, args, { env: { ...env, ...more } })
  return { code, out: stdout.toString(), err: stderr }
}

t.test('help is everywhere, with examples, on standard output', async t => {
  const top = await cli(['--help'])
  t.equal(top.code, 0)
  t.match(top.out, /Exit codes:/)
  t.equal(top.err, '')
  for (const command of ['mount', 'unmount', 'snapshots', 'ls', 'status', 'doctor']) {
    t.match(top.out, new RegExp(`^  ${command}\\b`, 'm'), `${command} is listed`)
    for (const args of [[command, '--help'], ['help', command], [command, '-h']]) {
      const { code, out } = await cli(args)
      t.equal(code, 0, args.join(' '))
      t.match(out, new RegExp(`Usage: daybook ${command}[^]*Examples:\n  daybook`), args.join(' '))
    }
  }
})

t.test('the version is that of the package', async t => {
  const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8'))
  for (const flag of ['--version', '-V']) t.strictSame(await cli([flag]), { code: 0, out: `${version}\n`, err: '' })
})

t.test('a wrong command line exits with 2, says what, and what was perhaps meant', async t => {
  for (const { args, fact, hint } of [
    { args: [], fact: /Usage: daybook/, hint: /Commands:/ },
    { args: ['mout'], fact: /^daybook: unknown command 'mout'$/m, hint: /^hint: Did you mean mount\?$/m },
    { args: ['mount', '--layot', 'days', '/x'], fact: /^daybook: unknown option '--layot'$/m, hint: /^hint: Did you mean --layout\?$/m },
    { args: ['mount'], fact: /^daybook: missing required argument 'dir'$/m, hint: /^hint: /m },
    { args: ['mount', '/a', '/b'], fact: /^daybook: too many arguments/m, hint: /^hint: /m },
    { args: ['mount', '--layout', 'weeks', '/a'], fact: /^daybook: .*'weeks' is invalid/m, hint: /days, restic/ },
    { args: ['mount', '--host'], fact: /^daybook: option '--host <host>' argument missing/m, hint: /^hint: /m },
    { args: ['snapshots'], fact: /^daybook: no repository is given$/m, hint: /^hint: give it with -r/m },
    { args: ['unmount', '--lazy', '--force', '/'], fact: /^daybook: --lazy and --force exclude one another$/m, hint: /^/ },
    { args: ['unmount', dir], fact: /^daybook: nothing is mounted at /m, hint: /^/ },
    { args: ['unmount', join(dir, 'missing')], fact: /missing does not exist$/m, hint: /^/ },
    { args: ['unmount', '/proc'], fact: /\/proc is not a daybook mount but proc$/m, hint: /^hint: unmount it with: umount \/proc$/m },
  ]) {
    const { code, out, err } = await cli(args)
    t.equal(code, 2, args.join(' '))
    t.equal(out, '', args.join(' '))
    t.match(err, fact)
    t.match(err, hint)
    t.notMatch(err, /^ {4}at /m, 'no stack')
  }
})

t.test('with --json an error is an object like restic\'s', async t => {
  const { code, out, err } = await cli(['--json', '-r', join(dir, 'nothing'), 'snapshots'])
  t.equal(code, 10)
  t.equal(out, '')
  t.match(JSON.parse(err), { message_type: 'exit_error', code: 10, message: /there is no repository at .*nothing/, error: 'ERR_NO_REPOSITORY' })
  t.match(JSON.parse((await cli(['snapshots', '--jsno', '--json'])).err), { message_type: 'exit_error', code: 2 }, 'also for the command line itself')
})

t.test('the stack is there for who asks for it', async t => {
  const args = ['-r', join(dir, 'nothing'), 'snapshots']
  t.match((await cli([...args, '-vv'])).err, /^ {4}at /m, '-vv')
  t.match((await cli([...args, '-v', '-v'])).err, /^ {4}at /m, '-v -v')
  t.match((await cli(args, { DAYBOOK_DEBUG: '1' })).err, /^ {4}at /m, 'DAYBOOK_DEBUG')
})

t.test('restic\'s variables say where the repository is', async t => {
  const there = join(dir, 'elsewhere')
  for (const { name, args, more, message } of [
    { name: 'RESTIC_REPOSITORY', args: [], more: { RESTIC_REPOSITORY: there }, message: /no repository at .*elsewhere/ },
    { name: 'the flag wins', args: ['-r', join(dir, 'flag')], more: { RESTIC_REPOSITORY: there }, message: /no repository at .*flag/ },
    { name: 'both kinds of flag', args: ['-r', there, '--repository-file', '/x'], more: {}, message: /given twice/ },
    { name: 'after the command', args: ['--repo', there], more: {}, message: /no repository at .*elsewhere/ },
  ]) t.match((await cli([...args, 'snapshots'], more)).err, message, name)
  t.match((await cli(['snapshots', '-r', there, '--no-lock', '-q'])).err, /no repository at .*elsewhere/, 'global options may follow the command')
})

t.test('it runs through a link from anywhere', async t => {
  mkdirSync(join(dir, 'bin'))
  symlinkSync(daybook, join(dir, 'bin/daybook'))
  symlinkSync('daybook', join(dir, 'bin/again'))
  for (const name of ['daybook', 'again']) t.equal((await run(join(dir, 'bin', name), ['--version'], { cwd: '/' })).code, 0, name)
})

t.test('not built: it says so, and how to', async t => {
  mkdirSync(join(dir, 'copy/bin'), { recursive: true })
  await run('cp', [daybook, join(dir, 'copy/bin/daybook')])
  const { code, stderr } = await run(join(dir, 'copy/bin/daybook'), ['--version'])
  t.equal(code, 1)
  t.match(stderr, /^daybook: not built yet: .*copy\/dist\/src\/cli\/main.js is missing\nhint: .*npm run build$/m)
})

t.test('a reader that leaves early is no failure worth a message', async t => {
  const { stderr } = await run('sh', ['-c', `"$0" --help | true`, daybook])
  t.equal(stderr, '')
})
