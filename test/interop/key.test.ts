import { readdirSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { daybook } from '../fixtures/mount-process.js'
import { newestRestic, ResticRepository } from '../fixtures/restic.js'
import { run } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'

t.setTimeout(300_000)

if (tier(t, 'restic', newestRestic() !== null || 'no restic found')) t.test('key and unlock', async t => {
  const dir = makeScratch('interop-key')
  t.teardown(() => removeScratch(dir))
  const repository = await ResticRepository.init(newestRestic()!, join(dir, 'repo'))
  const files = (kind: string) => readdirSync(join(repository.dir, kind))
  const ours = (args: string[], password = repository.password) => run(daybook, ['--cache-dir', join(dir, 'cache'), ...args], { env: { ...repository.env, RESTIC_PASSWORD: password } })
  const opens = async (password: string) => (await run(repository.restic.path, ['cat', 'config'], { env: { ...repository.env, RESTIC_PASSWORD: password } })).code === 0
  for (const name of ['second', 'third']) writeFileSync(join(dir, name), `${name} password\n`)
  writeFileSync(join(dir, 'empty'), '\n')
  const [first] = files('keys')

  await t.test('a key that is added opens the repository for both', async t => {
    t.match(await ours(['key', 'add', '--new-password-file', join(dir, 'second'), '--user', 'anna', '--host', 'web1']), { code: 0, stderr: '' })
    t.ok(await opens('second password'))
    t.equal(files('keys').length, 2)
    t.equal(files('locks').length, 0)
    t.match(await ours(['key', 'add', '--new-password-file', join(dir, 'empty')]), { code: 2, stderr: /the new password is empty/ })
    t.equal(files('keys').length, 2)
  })

  await t.test('the list is restic\'s', async t => {
    const list = async (command: string, args: string[]) => (JSON.parse((await run(command, [...args, 'key', 'list', '--json'], { env: repository.env })).stdout.toString()) as { id: string }[]).sort((a, b) => a.id < b.id ? -1 : 1)
    t.strictSame(await list(daybook, ['--cache-dir', join(dir, 'cache')]), await list(repository.restic.path, []))
    t.match((await ours(['key', 'list'])).stdout.toString(), new RegExp(`\\*${first!.slice(0, 8)}[^]* [0-9a-f]{8} +anna +web1 +20`))
  })

  await t.test('passwd replaces the key that was used', async t => {
    t.match(await ours(['key', 'passwd', '--new-password-file', join(dir, 'third')]), { code: 0, stderr: '' })
    t.notOk(await opens(repository.password))
    t.ok(await opens('third password'))
    t.equal(files('keys').length, 2)
  })

  await t.test('remove takes the one that is named, and never the one in use', async t => {
    const keys = JSON.parse((await ours(['key', 'list', '--json'], 'third password')).stdout.toString()) as { id: string, current: boolean, hostName: string }[]
    t.equal(keys.find(({ current }) => current)!.hostName, hostname())
    t.match(await ours(['key', 'remove', keys.find(({ current }) => current)!.id], 'third password'), { code: 2, stderr: /refusing to remove/ })
    t.match(await ours(['key', 'remove', '0000000000'], 'third password'), { code: 2, stderr: /no key 0000000000/ })
    t.match(await ours(['key', 'remove', keys.find(({ current }) => !current)!.id], 'third password'), { code: 0 })
    t.notOk(await opens('second password'))
    t.equal(files('keys').length, 1)
  })

  await t.test('unlock removes what nobody holds; all if told so', async t => {
    t.match(await ours(['unlock', '--json'], 'third password'), { code: 0, stdout: Buffer.from('{"message_type":"unlocked","removed":0}\n') })
    writeFileSync(join(repository.dir, 'locks', 'ab'.repeat(32)), 'no lock at all, but who knows whose')
    t.match(await ours(['unlock'], 'third password'), { code: 0, stderr: /cannot be read/ })
    t.equal(files('locks').length, 1)
    t.match(await ours(['unlock', '--remove-all'], 'third password'), { code: 0, stdout: Buffer.from('successfully removed 1 lock\n') })
    t.equal(files('locks').length, 0)
  })
})
