import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { userAllowOther } from '../../src/mount/requirements.js'
import { daybook } from '../fixtures/mount-process.js'
import { run } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'

const dir = makeScratch('doctor')
t.teardown(() => removeScratch(dir))
chmodSync(dir, 0o755)

interface Report { readonly ok: boolean, readonly checks: { readonly check: string, readonly state: string, readonly fact: string, readonly mend?: string }[] }

t.test('every check says what it found, and how to mend what is not right', async t => {
  const { code, stdout } = await run(daybook, ['doctor', '--json'])
  const { ok, checks } = JSON.parse(stdout.toString()) as Report
  t.equal(code, ok ? 0 : 1)
  t.same(checks.map(({ check }) => check),
    ['node', 'kernel', '/dev/fuse', 'fuse module', 'right to mount', 'fusermount3', 'libfuse3', 'addon', 'guard', 'user_allow_other', 'cache directory'])
  for (const { check, state, mend } of checks) {
    t.match(state, /^(ok|warn|fail)$/, check)
    t.equal(mend !== undefined, state !== 'ok', `${check}: a remedy exactly where something is wrong`)
  }
  const text = await run(daybook, ['doctor'])
  t.equal(text.stdout.toString().split('\n').filter(line => /^(ok|warn|fail) /.test(line)).length, checks.length, 'one line each as text')
})

t.test('the cache directory is measured, and not made', async t => {
  mkdirSync(join(dir, 'cache/x'), { recursive: true })
  writeFileSync(join(dir, 'cache/x/y'), Buffer.alloc(3_000_000))
  const fact = async (path: string) => (JSON.parse((await run(daybook, ['doctor', '--json', '--cache-dir', path])).stdout.toString()) as Report).checks.at(-1)!
  t.match(await fact(join(dir, 'cache')), { state: 'ok', fact: /3\.0 MB$/ })
  t.match(await fact(join(dir, 'new/one')), { state: 'ok', fact: /to be made$/ })
  t.match(await fact('/proc/sys/cache'), { state: 'warn', fact: /cannot be written/, mend: /--cache-dir/ }, 'where nobody can write')
})

t.test('user_allow_other counts only on a line by itself', async t => {
  const conf = join(dir, 'fuse.conf')
  for (const [text, allowed] of [['user_allow_other\n', true], ['mount_max = 10\n  user_allow_other  \n', true], ['#user_allow_other\n', false], ['user_allow_other = 1\n', false], ['', false]] as const) {
    writeFileSync(conf, text)
    t.equal(userAllowOther(conf), allowed, JSON.stringify(text))
  }
  t.equal(userAllowOther(join(dir, 'missing')), false)
})
