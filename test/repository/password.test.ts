import { chmodSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { resolveLocation, resolvePassword } from '../../src/repository/password.js'
import type { AccessFlags, Environment } from '../../src/repository/password.js'

const dir = t.testdir({
  repo: '\n /srv/backup \n', empty: ' \n', pw: ' secret \r\n', bom: Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from('sécret\n')]) as unknown as string,
  utf16: Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('secret\n', 'utf16le')]) as unknown as string, raw: Buffer.from([0xff, 0x41, 0x20, 0xe9, 0x0a]) as unknown as string,
  script: '#!/bin/sh\nprintf "  $1|$2 \\n\\n"\n', dies: '#!/bin/sh\nkill -9 $$\n', fails: '#!/bin/sh\necho secret\nexit 3\n',
})
for (const name of ['script', 'fails', 'dies']) chmodSync(join(dir, name), 0o755)
const file = (name: string) => join(dir, name)

t.test('where the repository is', async t => {
  for (const [name, flags, env, expected] of [
    ['a flag', { repo: '/a' }, {}, '/a'],
    ['a variable', {}, { RESTIC_REPOSITORY: '/a' }, '/a'],
    ['the flag before its variable', { repo: '/b' }, { RESTIC_REPOSITORY: '/a' }, '/b'],
    ['a file, trimmed', { repositoryFile: file('repo') }, {}, '/srv/backup'],
    ['a file by variable', {}, { RESTIC_REPOSITORY_FILE: file('repo') }, '/srv/backup'],
    ['an empty flag takes its variable away', { repo: '', repositoryFile: file('repo') }, { RESTIC_REPOSITORY: '/a' }, '/srv/backup'],
    ['an empty variable is none', { repo: '/a' }, { RESTIC_REPOSITORY_FILE: '' }, '/a'],
  ] as [string, AccessFlags, Environment, string][]) t.equal(await resolveLocation(flags, env), expected, name)
  for (const [name, flags, env, message] of [
    ['nothing', {}, {}, /no repository is given/],
    ['both', { repo: '/a', repositoryFile: file('repo') }, {}, /given twice/],
    ['both, one by variable', { repositoryFile: file('repo') }, { RESTIC_REPOSITORY: '/a' }, /given twice/],
    ['a file that is not there', { repositoryFile: file('none') }, {}, /does not exist/],
    ['an empty file', { repositoryFile: file('empty') }, {}, /is empty/],
    ['a folder', { repositoryFile: dir }, {}, /EISDIR/],
  ] as [string, AccessFlags, Environment, RegExp][]) await t.rejects(resolveLocation(flags, env), { code: 'ERR_USAGE', message }, name)
})

t.test('the password', async t => {
  for (const [name, flags, env, expected] of [
    ['none', {}, {}, null],
    ['the variable as it is', {}, { RESTIC_PASSWORD: ' a b\n' }, ' a b\n'],
    ['an empty variable is none', {}, { RESTIC_PASSWORD: '' }, null],
    ['a file, trimmed', { passwordFile: file('pw') }, {}, 'secret'],
    ['a file before RESTIC_PASSWORD', { passwordFile: file('pw') }, { RESTIC_PASSWORD: 'x' }, 'secret'],
    ['a file with a byte order mark', { passwordFile: file('bom') }, {}, 'sécret'],
    ['a file in UTF-16', {}, { RESTIC_PASSWORD_FILE: file('utf16') }, 'secret'],
    ['an empty file is none', { passwordFile: file('empty') }, {}, null],
    ['a command, trimmed', { passwordCommand: `${file('script')} one 'two three'` }, { RESTIC_PASSWORD: 'x' }, 'one|two three'],
    ['a command by variable', {}, { RESTIC_PASSWORD_COMMAND: 'echo secret', RESTIC_PASSWORD: 'x' }, 'secret'],
    ['a command that says nothing', { passwordCommand: 'true' }, {}, null],
    ['no password wanted', { insecureNoPassword: true }, {}, ''],
  ] as [string, AccessFlags, Environment, string | null][]) t.equal((await resolvePassword(flags, env))?.toString() ?? null, expected, name)
  t.ok((await resolvePassword({ passwordFile: file('raw') }, {}))?.equals(Buffer.from([0xff, 0x41, 0x20, 0xe9])), 'bytes that are not UTF-8 stay')
})

t.test('the password: errors, which do not show it', async t => {
  for (const [name, flags, env, message] of [
    ['file and command', { passwordFile: file('pw'), passwordCommand: 'echo secret' }, {}, /given twice/],
    ['file and command, one by variable', { passwordFile: file('pw') }, { RESTIC_PASSWORD_COMMAND: 'echo secret' }, /given twice/],
    ['a file that is not there', { passwordFile: file('none') }, {}, /does not exist/],
    ['a command that fails', { passwordCommand: `${file('fails')} secret` }, {}, /failed with exit code 3/],
    ['a command that is not there', { passwordCommand: '/no/such/program secret' }, {}, /does not exist/],
    ['a command that is killed', { passwordCommand: `${file('dies')} secret` }, {}, /was ended by SIGKILL/],
    ['a quote left open', { passwordCommand: 'echo "secret' }, {}, /double quote is not closed/],
    ['an empty command', { passwordCommand: '  ' }, {}, /is empty/],
    ['a password that is not wanted', { insecureNoPassword: true }, { RESTIC_PASSWORD: 'secret' }, /together with --insecure-no-password/],
  ] as [string, AccessFlags, Environment, RegExp][]) {
    await t.rejects(resolvePassword(flags, env), { code: 'ERR_USAGE', message }, name)
    await resolvePassword(flags, env).catch(error => t.notMatch(`${error.message} ${error.hint}`, 'secret', name))
  }
  await t.rejects(resolvePassword({ passwordCommand: 'sleep 1000' }, {}, { signal: AbortSignal.timeout(50) }), { code: 'ERR_ABORTED' }, 'a command that never ends can be left')
})

t.test('no shell is in between', async t => {
  t.equal((await resolvePassword({ passwordCommand: `echo $HOME; touch ${file('touched')}` }, {}))?.toString(), `$HOME; touch ${file('touched')}`)
  t.notOk(existsSync(file('touched')))
})
