import { spawn, type ChildProcess } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Handle } from '../../src/backend/backend.js'
import { parseLocation } from '../../src/backend/location.js'
import { openBackend } from '../../src/backend/open-backend.js'
import { DEFAULT_OPTIONS } from '../../src/backend/options.js'
import { SftpBackend } from '../../src/backend/sftp.js'
import { backendSuite, writingSuite } from '../fixtures/backend-suite.js'
import { eventually, output } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { hasSshd, Sshd } from '../fixtures/sshd.js'
import { tier } from '../fixtures/tiers.js'

const CONFIG = { type: 'config', name: '' } as const

if (tier(t, 'sshd', hasSshd() || 'no sshd, or not root')) {
  const dir = makeScratch('sftp')
  const server = await Sshd.start(join(dir, 'sshd'))
  t.teardown(async () => {
    await server.stop()
    removeScratch(dir)
  })
  const hostKey = readFileSync(join(dir, 'sshd/host.pub'), 'utf8').split(' ').slice(0, 2).join(' ')
  const knownHosts = join(dir, 'known_hosts')
  writeFileSync(knownHosts, `[127.0.0.1]:${server.port} ${hostKey}\n`)
  const basic = { HostName: '127.0.0.1', Port: server.port, User: 'root', IdentityFile: join(dir, 'sshd/user'), IdentitiesOnly: 'yes', UserKnownHostsFile: knownHosts, GlobalKnownHostsFile: 'none' }
  let configs = 0

  /** Options for a host `backup` of an ssh_config of its own. */
  const withConfig = (settings: Record<string, string | number | undefined> = {}, more = '') => {
    const file = join(dir, `ssh_config-${configs++}`)
    writeFileSync(file, `Host backup\n${Object.entries({ ...basic, ...settings }).map(([name, value]) => value === undefined ? '' : `  ${name} ${value}\n`).join('')}${more}`)
    return { ...DEFAULT_OPTIONS, extended: { 'sftp.args': `-F ${file}` } }
  }
  const readConfig = async (location: string, options: ReturnType<typeof withConfig>) => {
    const backend = new SftpBackend(parseLocation(location), options)
    try {
      return (await backend.readAll(CONFIG, 100)).toString()
    } finally {
      await backend.close()
    }
  }
  const root = join(dir, 'r')
  mkdirSync(root)
  writeFileSync(join(root, 'config'), 'config')

  let repositories = 0
  const subject = async (open: (location: ReturnType<typeof parseLocation>) => Promise<SftpBackend> | ReturnType<typeof openBackend>, flat = false) => {
    const folder = join(dir, String(repositories++))
    const pathOf = ({ type, name }: Handle) => type === 'data' && !flat ? join(folder, 'data', name.slice(0, 2), name) : join(folder, type, name)
    return {
      backend: await open(parseLocation(`sftp:backup:${folder}`)),
      put: (handle: Handle, bytes: Buffer) => {
        const path = pathOf(handle)
        mkdirSync(dirname(path), { recursive: true })
        writeFileSync(path, bytes)
        writeFileSync(join(dirname(path), 'README.txt'), 'not a file of the repository')
        mkdirSync(join(dirname(path), 'f'.repeat(64)), { recursive: true })
      },
      remove: (handle: Handle) => rmSync(pathOf(handle)),
    }
  }
  backendSuite(t, 'sftp', () => subject(async location => new SftpBackend(location, withConfig())))
  backendSuite(t, 'sftp, packs right in data/', () => subject(async location => new SftpBackend(location, withConfig()), true))
  const writable = (backend: (location: ReturnType<typeof parseLocation>) => SftpBackend) => {
    const location = parseLocation(`sftp:backup:${join(dir, 'new', String(repositories++), 'repository')}`)
    return { backend: backend(location), reader: new SftpBackend(location, withConfig()) }
  }
  writingSuite(t, 'sftp', () => writable(location => new SftpBackend(location, withConfig())))
  backendSuite(t, 'sftp, with retries and limits', () => subject(location => openBackend(location, withConfig())))

  t.test('every spelling of a location', async t => {
    const options = withConfig({}, 'Host 127.0.0.1\n' + Object.entries({ ...basic, Port: 1 }).map(([name, value]) => `  ${name} ${value}\n`).join(''))
    for (const location of [`sftp:backup:${root}`, `sftp://backup/${root}`, `sftp:root@backup:${root}/`, `sftp://root@127.0.0.1:${server.port}/${root}`]) {
      t.equal(await readConfig(location, options), 'config', location)
    }
  })

  t.test('a path without a slash in front begins where the user logs in', async t => {
    await t.rejects(readConfig('sftp:backup:there/is/none', withConfig()), { code: 'ERR_NOT_FOUND' })
  })

  t.test('the host key must be known', async t => {
    const unknown = join(dir, 'unknown_hosts')
    await t.rejects(readConfig(`sftp:backup:${root}`, withConfig({ UserKnownHostsFile: unknown })), {
      name: 'RefusedError', retryable: false, message: /^the host key of \[127\.0\.0\.1\]:\d+ \(ssh-ed25519 SHA256:[\w+/]{43}\) is not known: it is not in .*unknown_hosts$/,
      hint: /ssh -p \d+ root@127\.0\.0\.1/,
    })
    t.notOk(existsSync(unknown), 'and nothing is written down')
    await output('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(dir, 'other')])
    const other = join(dir, 'other_hosts')
    writeFileSync(other, `# a comment\n[127.0.0.1]:${server.port} ${readFileSync(join(dir, 'other.pub'), 'utf8')}`)
    await t.rejects(readConfig(`sftp:backup:${root}`, withConfig({ UserKnownHostsFile: other, StrictHostKeyChecking: 'no' })), { name: 'RefusedError', message: /not the one in .*other_hosts, line 2/, hint: /ssh-keygen -f .* -R/ })
    const revoked = join(dir, 'revoked_hosts')
    writeFileSync(revoked, `@revoked * ${hostKey}\n[127.0.0.1]:${server.port} ${hostKey}\n`)
    await t.rejects(readConfig(`sftp:backup:${root}`, withConfig({ UserKnownHostsFile: revoked })), { name: 'RefusedError', message: /revoked/ })
  })

  t.test('the key is found by hashed names, patterns, aliases, and beside keys of other kinds', async t => {
    const file = (name: string, text: string) => {
      writeFileSync(join(dir, name), text)
      return join(dir, name)
    }
    const hashed = file('hashed', readFileSync(knownHosts, 'utf8'))
    await output('ssh-keygen', ['-H', '-f', hashed])
    t.match(readFileSync(hashed, 'utf8'), /^\|1\|/)
    await output('ssh-keygen', ['-q', '-t', 'rsa', '-N', '', '-f', join(dir, 'rsa')])
    const rsa = readFileSync(join(dir, 'rsa.pub'), 'utf8')
    for (const settings of [
      { UserKnownHostsFile: hashed },
      { UserKnownHostsFile: file('pattern', `!other,[127.0.0.?]:* ${hostKey}\n`) },
      { UserKnownHostsFile: file('alias', `vault ${hostKey}\n`), HostKeyAlias: 'vault' },
      { UserKnownHostsFile: file('two', `[127.0.0.1]:${server.port} ${rsa}[127.0.0.1]:${server.port} ${hostKey}\n`) },
    ]) t.equal(await readConfig(`sftp:backup:${root}`, withConfig(settings)), 'config', settings.UserKnownHostsFile)
  })

  t.test('a host that was never seen is remembered where ssh would do so', async t => {
    const fresh = join(dir, 'fresh_hosts')
    const options = withConfig({ UserKnownHostsFile: fresh, StrictHostKeyChecking: 'accept-new' })
    t.equal(await readConfig(`sftp:backup:${root}`, options), 'config')
    t.equal(readFileSync(fresh, 'utf8'), `[127.0.0.1]:${server.port} ${hostKey}\n`)
    t.equal(await readConfig(`sftp:backup:${root}`, withConfig({ UserKnownHostsFile: fresh })), 'config')
  })

  t.test('a user who is not let in', async t => {
    await t.rejects(readConfig(`sftp:backup:${root}`, withConfig({ IdentityFile: join(dir, 'other') })), { name: 'AccessError', retryable: false, message: /lets root not in/, hint: /tried: .*other; no agent/ })
    await t.rejects(readConfig(`sftp:backup:${root}`, withConfig({ IdentityFile: join(dir, 'none') })), { name: 'AccessError', hint: /tried: no key file/ })
  })

  t.test('keys of an agent', async t => {
    const socket = join(dir, 'agent')
    const agent: ChildProcess = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' })
    t.teardown(() => { agent.kill() })
    await eventually('the agent listens', () => existsSync(socket))
    const encrypted = join(dir, 'encrypted')
    await output('ssh-keygen', ['-q', '-t', 'ed25519', '-N', 'a passphrase', '-f', encrypted])
    appendFileSync(join(dir, 'sshd/user.pub'), readFileSync(`${encrypted}.pub`))
    const askpass = join(dir, 'askpass')
    writeFileSync(askpass, '#!/bin/sh\necho a passphrase\n', { mode: 0o755 })
    const env = { ...process.env, SSH_AUTH_SOCK: socket, SSH_ASKPASS: askpass, SSH_ASKPASS_REQUIRE: 'force', DISPLAY: ':0' }
    for (const key of [join(dir, 'other'), encrypted]) await output('ssh-add', ['-q', key], { env })
    for (const [name, settings] of Object.entries({
      'any of its keys': { IdentityFile: join(dir, 'none'), IdentitiesOnly: 'no' },
      'the one of a key file with a passphrase': { IdentityFile: encrypted },
    })) t.equal(await readConfig(`sftp:backup:${root}`, withConfig({ ...settings, IdentityAgent: socket })), 'config', name)
    await t.rejects(readConfig(`sftp:backup:${root}`, withConfig({ IdentityFile: join(dir, 'other'), IdentityAgent: socket })), { name: 'AccessError' }, 'and no others with IdentitiesOnly')
  })

  t.test('through a command, and through another host', async t => {
    t.equal(await readConfig(`sftp:backup:${root}`, withConfig({ ProxyCommand: `ssh -F ${server.config} -W %h:%p backup` })), 'config')
    await t.rejects(readConfig(`sftp:backup:${root}`, withConfig({ ProxyCommand: 'exit 3' })), { code: 'ERR_UNREACHABLE', retryable: true })
    const options = withConfig({ ProxyJump: 'hop' }, `Host hop\n${Object.entries(basic).map(([name, value]) => `  ${name} ${value}\n`).join('')}`)
    t.equal(await readConfig(`sftp:backup:${root}`, options), 'config')
  })

  t.test('many reads use several connections, and a lost one is replaced', async t => {
    writeFileSync(join(root, 'big'), '')
    const name = 'ab'.repeat(32)
    mkdirSync(join(root, 'data/ab'), { recursive: true })
    writeFileSync(join(root, 'data/ab', name), Buffer.alloc(8 << 20, 7))
    const backend = await openBackend(parseLocation(`sftp:backup:${root}`), withConfig())
    t.teardown(() => backend.close())
    const connections = async () => (await output('ss', ['-Htn', 'state', 'established', `sport = :${server.port}`])).toString().trim().split('\n').filter(Boolean).length
    const read = () => Promise.all(Array.from({ length: 20 }, (_, i) => backend.read({ type: 'data', name }, i * 1000, 4 << 20)))
    t.ok((await read()).every(bytes => bytes.equals(Buffer.alloc(4 << 20, 7))))
    const open = await connections()
    t.ok(open > 1 && open <= 5, `${open} connections`)
    await output('ss', ['-K', '-tn', `sport = :${server.port}`]).catch(() => {})
    t.ok((await read()).every(bytes => bytes.length === 4 << 20))
  })
}
