import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { parseLocation } from '../../src/backend/location.js'
import { openBackend } from '../../src/backend/open-backend.js'
import { DEFAULT_OPTIONS } from '../../src/backend/options.js'
import { RestBackend } from '../../src/backend/rest.js'
import { backendSuite, writingSuite } from '../fixtures/backend-suite.js'
import { hasRclone, Rclone } from '../fixtures/rclone.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'

if (tier(t, 'rclone', hasRclone() || 'no rclone')) {
  const dir = makeScratch('rest')
  t.teardown(() => removeScratch(dir))
  const CONFIG = { type: 'config', name: '' } as const
  let repositories = 0

  await t.test('rclone serve restic', async t => {
    const server = await Rclone.start(join(dir, 'plain'))
    t.teardown(() => server.stop())
    const subject = async (open: (location: ReturnType<typeof parseLocation>) => Promise<RestBackend> | ReturnType<typeof openBackend>) => {
      const repository = `repository-${repositories++}`
      return {
        backend: await open(parseLocation(`rest:${server.url}/${repository}/`)),
        put: (handle: Parameters<Rclone['put']>[1], bytes: Buffer) => server.put(repository, handle, bytes),
        remove: (handle: Parameters<Rclone['put']>[1]) => server.remove(repository, handle),
      }
    }
    backendSuite(t, 'rest', () => subject(async location => new RestBackend(location, DEFAULT_OPTIONS)))
    writingSuite(t, 'rest', async () => {
      const location = parseLocation(`rest:${server.url}/repository-${repositories++}/`)
      return { backend: new RestBackend(location, DEFAULT_OPTIONS), reader: new RestBackend(location, DEFAULT_OPTIONS) }
    })
    backendSuite(t, 'rest, with retries and limits', () => subject(location => openBackend(location)))
  })

  await t.test('user and password', async t => {
    const server = await Rclone.start(join(dir, 'login'), { user: 'anna', password: 'p@ss:w%rd/' })
    t.teardown(() => server.stop())
    await server.put('r', CONFIG, Buffer.from('config'))
    const { host } = new URL(server.url)
    const read = async (location: string, env = {}) => {
      const backend = new RestBackend(parseLocation(location), DEFAULT_OPTIONS, env)
      try {
        return (await backend.readAll(CONFIG, 100)).toString()
      } finally {
        await backend.close()
      }
    }
    t.equal(await read(`rest:http://anna:p%40ss%3Aw%25rd%2F@${host}/r`), 'config', 'in the location, escaped')
    t.equal(await read(`rest:http://${host}/r`, { RESTIC_REST_USERNAME: 'anna', RESTIC_REST_PASSWORD: 'p@ss:w%rd/' }), 'config', 'in the environment')
    for (const location of [`rest:http://${host}/r`, `rest:http://anna:secret@${host}/r`]) {
      await t.rejects(read(location), { name: 'AccessError', retryable: false, message: `no permission to read ${location.replace('secret', '***')}` })
    }
  })

  await t.test('TLS', async t => {
    const certificate = (name: string) => {
      const [key, cert] = [join(dir, `${name}.key`), join(dir, `${name}.crt`)]
      execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert,
        '-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'], { stdio: 'ignore' })
      return { key, cert }
    }
    const [ours, other] = [certificate('ours'), certificate('other')]
    const server = await Rclone.start(join(dir, 'tls'), { args: ['--cert', ours.cert, '--key', ours.key] })
    t.teardown(() => server.stop())
    const stat = async (caCertificates: string[], insecure = false, url = server.url) => {
      const backend = new RestBackend(parseLocation(`rest:${url}/r`), { extended: {}, tls: { caCertificates, clientCertificate: null, insecure } })
      return backend.stat(CONFIG).finally(() => backend.close())
    }
    await t.rejects(stat([ours.cert]), { code: 'ERR_NOT_FOUND' }, 'trusted: it may tell that there is nothing')
    await t.rejects(stat([], true), { code: 'ERR_NOT_FOUND' }, 'not asked')
    for (const trusted of [[], [other.cert]]) await t.rejects(stat(trusted), { name: 'RefusedError', retryable: false, hint: /--cacert/ })
    await t.rejects(stat([], false, server.url.replace('https', 'http')), { code: 'ERR_UNREACHABLE' }, 'plain HTTP to a server that encrypts')
    t.throws(() => new RestBackend(parseLocation(`rest:${server.url}/r`), { extended: {}, tls: { caCertificates: [join(dir, 'none')], clientCertificate: null, insecure: false } }),
      { code: 'ERR_USAGE', message: /none \(ENOENT\), given with --cacert/ })
    t.throws(() => new RestBackend(parseLocation(`rest:${server.url}/r`), { extended: {}, tls: { caCertificates: [ours.key], clientCertificate: null, insecure: false } }), { code: 'ERR_USAGE' })
  })
}
