import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { daybook } from '../fixtures/mount-process.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { run } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'

t.setTimeout(120_000)

const PROMPT = /enter password/g

if (tier(t, 'restic', newestRestic() !== null || 'no restic found')) t.test('snapshots of a repository', main)

async function main(t: Test): Promise<void> {
  const dir = makeScratch('snapshots')
  t.teardown(() => removeScratch(dir))
  const repo = await ResticRepository.init(newestRestic()!, `${dir}/repo`)
  const cli = async (args: string[], env: NodeJS.ProcessEnv = {}) => {
    const { code, stdout, stderr } = await run(daybook, ['--cache-dir', `${dir}/cache`, ...args], { env: { ...repo.env, TZ: 'UTC', ...env } })
    return { code, out: stdout.toString(), err: stderr }
  }
  const json = async (args: string[], env: NodeJS.ProcessEnv = {}) => JSON.parse((await cli(['--json', 'snapshots', ...args], env)).out) as { id: string, day: string }[]
  const days = async (args: string[], env: NodeJS.ProcessEnv = {}) => (await json(args, env)).map(({ day }) => day)

  await t.test('an empty repository has none', async t => {
    t.strictSame(await cli(['snapshots']), { code: 0, out: '0 snapshots\n', err: '' })
    t.strictSame(await json([]), [])
  })

  for (const name of ['a', 'b']) {
    mkdirSync(`${dir}/${name}`)
    writeFileSync(`${dir}/${name}/file`, name)
  }
  const backup = async (name: string, time: string, host: string, tags: string[]) => (await repo.backup([`${dir}/${name}`], { time, host, tags })).id
  const first = await backup('a', '2026-11-18 10:00:00', 'web1', ['daily', 'database'])
  const second = await backup('b', '2026-11-18 12:30:00', 'web1', ['weekly'])
  const third = await backup('a', '2026-11-19 10:00:00', 'web1', [])

  await t.test('a table: oldest first, named as in a mount', async t => {
    const { code, out, err } = await cli(['snapshots'])
    t.equal(code, 0)
    t.equal(err, '')
    t.equal(out, [
      'Day                  Time                 Host  Tags            ID        Paths',
      `-------------------  -------------------  ----  --------------  --------  ${'-'.repeat(`${dir}/a`.length)}`,
      `2026-11-18           2026-11-18 10:00:00  web1  daily,database  ${first.slice(0, 8)}  ${dir}/a`,
      `2026-11-18T12-30-00  2026-11-18 12:30:00  web1  weekly          ${second.slice(0, 8)}  ${dir}/b`,
      `2026-11-19           2026-11-19 10:00:00  web1                  ${third.slice(0, 8)}  ${dir}/a`,
      '3 snapshots', '',
    ].join('\n'))
  })

  await t.test('JSON has the fields of restic\'s, and the day', async t => {
    const ours = await json([])
    const theirs = JSON.parse(await repo.run('snapshots', '--json')) as { id: string }[]
    t.same(ours.map(({ id }) => id), theirs.map(({ id }) => id))
    const fields = ['time', 'tree', 'paths', 'hostname', 'username', 'tags', 'program_version', 'id', 'short_id', 'summary']
    for (const [i, snapshot] of theirs.entries()) {
      for (const field of fields) t.same(ours[i][field as 'id'], snapshot[field as 'id'], `${field} of snapshot ${i}`)
    }
    t.match(ours[0], { day: '2026-11-18' })
  })

  await backup('b', '2026-11-19 11:00:00', 'db/1', ['daily'])

  await t.test('filters mean what they mean to restic', async t => {
    for (const args of [
      ['--host', 'web1'], ['--host', 'web1', '--host', 'db/1'], ['--tag', 'daily'], ['--tag', 'daily,database'], ['--tag', 'weekly', '--tag', 'daily,database'], ['--tag', ''],
      ['--path', `${dir}/b`], ['--path', `${dir}/a/`], ['--host', 'web1', '--tag', 'daily'], ['latest'], ['latest', '--host', 'web1'], [first.slice(0, 10), third], ['--host', 'none'],
    ]) {
      const theirs = JSON.parse(await repo.run('snapshots', '--json', ...args.map(arg => arg === `${dir}/a/` ? `${dir}/a` : arg))) as { id: string }[] | null
      t.same((await json(args)).map(({ id }) => id).sort(), (theirs ?? []).map(({ id }) => id).sort(), args.join(' '))
    }
    t.same((await json([], { RESTIC_HOST: 'db/1' })).length, 1, 'RESTIC_HOST')
    t.same((await json(['--host', ''], { RESTIC_HOST: 'db/1' })).length, 4, 'and how to be rid of it')
  })

  await t.test('days are named for the mount with the same filters', async t => {
    t.same(await days([]), ['web1/2026-11-18', 'web1/2026-11-18T12-30-00', 'web1/2026-11-19', 'db_1/2026-11-19'])
    t.same(await days(['--host', 'db/1']), ['2026-11-19'])
    t.same(await days(['--tag', 'weekly']), ['2026-11-18'])
    t.same(await days(['--host', 'web1'], { TZ: 'Pacific/Kiritimati' }), ['2026-11-19', '2026-11-19T02-30-00', '2026-11-20'], 'local days')
  })

  await t.test('what is not there is an error', async t => {
    t.match(await cli(['snapshots', 'ffffffff']), { code: 2, err: /^daybook: no snapshot ffffffff\nhint: / })
    t.match(await cli(['snapshots'], { RESTIC_PASSWORD: 'wrong' }), { code: 12, out: '', err: /^daybook: wrong password/ })
    t.match(await cli(['snapshots'], { RESTIC_PASSWORD: '' }), { code: 2, err: /^daybook: the password is empty\nhint: .*--insecure-no-password/ })
  })

  await t.test('the password is asked for on a terminal, up to three times', async t => {
    const right = await onTerminal(['mistyped\n', `${repo.password}\n`])
    t.equal(right.code, 0, right.said)
    t.match(right.said, /enter password for repository: [^]*wrong password, try again[^]*2026-11-18/)
    t.notOk(right.said.includes(repo.password), 'it is not shown')
    const wrong = await onTerminal(['one\n', 'two\n', 'three\n', 'four\n'])
    t.equal(wrong.code, 12)
    t.equal(wrong.said.match(PROMPT)?.length, 3)
    t.equal((await onTerminal(['\x03'])).code, 130, 'Ctrl-C gives up')
  })

  /** Answer each question as it comes, like a person. */
  function onTerminal(answers: string[]): Promise<{ code: number | null, said: string }> {
    const child = spawn('script', ['-qec', `"${daybook}" --cache-dir ${dir}/cache snapshots -q`, '/dev/null'], { env: { ...repo.env, RESTIC_PASSWORD: undefined } })
    let said = ''
    let asked = 0
    child.stdout.on('data', chunk => {
      said += chunk
      for (const questions = said.match(PROMPT)?.length ?? 0; asked < questions; asked++) child.stdin.write(answers[asked] ?? '')
    })
    return new Promise(resolve => child.on('close', code => resolve({ code, said })))
  }
}
