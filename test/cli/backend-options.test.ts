import { resolve } from 'node:path'
import t from 'tap'
import { backendOptions } from '../../src/cli/backend-options.js'
import { replicaLocations } from '../../src/cli/repository-access.js'
import { parseLocation } from '../../src/backend/location.js'
import { DEFAULT_OPTIONS } from '../../src/backend/options.js'

t.test('how a repository is reached, from flags and environment', async t => {
  t.strictSame(backendOptions({ verbose: 0 }, {}), DEFAULT_OPTIONS)
  t.strictSame(backendOptions({
    verbose: 0, option: ['s3.region=eu', 'rest.connections=2'], timeout: '2m', limitDownload: '500', limitUpload: '100',
    cacert: ['ca.pem', '/etc/other.pem'], tlsClientCert: 'client.pem', insecureTls: true,
  }, { RESTIC_CACERT: 'unused', RESTIC_TLS_CLIENT_CERT: 'unused' }), {
    extended: { 's3.region': 'eu', 'rest.connections': '2' }, timeoutMs: 120_000, downloadKibPerSecond: 500, uploadKibPerSecond: 100,
    tls: { caCertificates: [resolve('ca.pem'), '/etc/other.pem'], clientCertificate: resolve('client.pem'), insecure: true },
  })
  t.match(backendOptions({ verbose: 0 }, { RESTIC_CACERT: 'a.pem,/b.pem', RESTIC_TLS_CLIENT_CERT: 'c.pem' }).tls, { caCertificates: [resolve('a.pem'), '/b.pem'], clientCertificate: resolve('c.pem') })
})

t.test('values that make no sense', async t => {
  for (const options of [{ timeout: 'soon' }, { limitDownload: '1.5' }, { limitDownload: '-1' }, { limitUpload: '1M' }, { option: ['nothing'] }, { option: ['s3.x=1'] }]) {
    t.throws(() => backendOptions({ verbose: 0, ...options }, {}), { code: 'ERR_USAGE' }, JSON.stringify(options))
  }
})

t.test('they can go to another process', async t => {
  const options = backendOptions({ verbose: 0, timeout: '0' }, {})
  t.strictSame(JSON.parse(JSON.stringify(options)), options)
})

t.test('replicas, from flags or the environment', async t => {
  const first = parseLocation('/srv/restic')
  const shown = (given: string[] | undefined, variable?: string) => replicaLocations(given, first, { DAYBOOK_REPLICAS: variable }).map(({ display }) => display)
  t.strictSame(shown(undefined), [])
  t.strictSame(shown(['rest:http://a:b@host/', '/mnt/a folder']), ['rest:http://a:***@host/', '/mnt/a folder'])
  t.strictSame(shown(undefined, ' /mnt/a\n sftp:host:/b '), ['/mnt/a', 'sftp:host:/b'])
  t.strictSame(shown(['/mnt/a'], '/mnt/b'), ['/mnt/a'], 'flags replace the variable')
  for (const given of [['/srv/restic'], ['/mnt/a', '/mnt/a'], ['unknown:x']]) t.throws(() => replicaLocations(given, first, {}), { code: 'ERR_USAGE' }, given.join(' '))
})
