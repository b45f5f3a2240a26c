import { createHmac } from 'node:crypto'
import t from 'tap'
import { knownKeys, parseKnownHosts } from '../../../src/backend/ssh/known-hosts.js'

const KEY = Buffer.from('\0\0\0\x0bssh-ed25519 and so on').toString('base64')
const hashed = (host: string) => {
  const salt = Buffer.alloc(20, 7)
  return `|1|${salt.toString('base64')}|${createHmac('sha1', salt).update(host).digest('base64')}`
}

t.test('which lines speak of a host', async t => {
  for (const [line, host, found] of [
    [`host ssh-ed25519 ${KEY} a comment`, 'host', true],
    [`host ssh-ed25519 ${KEY}`, 'host2', false],
    [`host ssh-ed25519 ${KEY}`, '[host]:2222', false],
    [`[host]:2222 ssh-ed25519 ${KEY}`, '[host]:2222', true],
    [`other,Host,192.0.2.1 ssh-ed25519 ${KEY}`, 'host', true],
    [`*.example.org ssh-ed25519 ${KEY}`, 'a.example.org', true],
    [`*.example.org ssh-ed25519 ${KEY}`, 'axexample.org', false],
    [`*.example.org,!a.example.org ssh-ed25519 ${KEY}`, 'a.example.org', false],
    [`hos? ssh-ed25519 ${KEY}`, 'host', true],
    [`[192.0.2.*]:* ssh-ed25519 ${KEY}`, '[192.0.2.77]:2222', true],
    [`2001:db8::1 ssh-ed25519 ${KEY}`, '2001:db8::1', true],
    [`${hashed('host')} ssh-ed25519 ${KEY}`, 'host', true],
    [`${hashed('host')} ssh-ed25519 ${KEY}`, 'hosts', false],
    [`  \thost \t ssh-ed25519 ${KEY}`, 'host', true],
    [`# host ssh-ed25519 ${KEY}`, 'host', false],
    [`#host ssh-ed25519 ${KEY}`, '#host', false],
    [`@cert-authority host ssh-ed25519 ${KEY}`, 'host', false],
    ['host ssh-ed25519', 'host', false],
    ['', 'host', false],
    ['|1|x ssh-ed25519 x', 'host', false],
  ] as const) t.equal(parseKnownHosts(line, host).length, found ? 1 : 0, `${host}: ${line}`)
})

t.test('what they say', async t => {
  const [first, second] = parseKnownHosts(`# a\nhost ssh-ed25519 ${KEY}\n@revoked host ssh-rsa ${KEY}\n`, 'host', 'F')
  t.match(first, { type: 'ssh-ed25519', revoked: false, file: 'F', line: 2 })
  t.ok(first.blob.equals(Buffer.from(KEY, 'base64')))
  t.match(second, { type: 'ssh-rsa', revoked: true, line: 3 })
})

t.test('a file that is not there says nothing, one that cannot be read says so', async t => {
  const dir = t.testdir({ folder: {} })
  t.strictSame(knownKeys([`${dir}/none`], 'host'), [])
  t.throws(() => knownKeys([`${dir}/folder`], 'host'), { code: 'ERR_USAGE', message: /EISDIR/ })
})
