import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Handle } from '../../src/backend/backend.js'
import { parseLocation } from '../../src/backend/location.js'
import { openBackend } from '../../src/backend/open-backend.js'
import { DEFAULT_OPTIONS } from '../../src/backend/options.js'
import { S3Backend } from '../../src/backend/s3.js'
import { backendSuite, writingSuite } from '../fixtures/backend-suite.js'
import { Ceph, keyOf, lackOfCeph } from '../fixtures/ceph.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { tier } from '../fixtures/tiers.js'

t.setTimeout(120_000)

const CONFIG = { type: 'config', name: '' } as const
const AWS = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_PROFILE', 'AWS_SHARED_CREDENTIALS_FILE', 'AWS_CONFIG_FILE', 'AWS_DEFAULT_REGION', 'AWS_REGION']

if (tier(t, 'ceph', lackOfCeph)) {
  const dir = makeScratch('s3')
  const ceph = await Ceph.start(dir)
  t.teardown(async () => {
    await ceph.stop()
    removeScratch(dir)
  })
  for (const name of AWS) delete process.env[name]
  const { host } = new URL(ceph.endpoint)
  await ceph.makeBucket('backups')

  let repositories = 0
  const subject = async (open: (location: ReturnType<typeof parseLocation>) => Promise<S3Backend> | ReturnType<typeof openBackend>) => {
    const prefix = `a folder/repository-${repositories++}`
    // What begins like the name of a folder is not in it.
    await ceph.put('backups', `${prefix}/keys-of-somebody-else/${'a'.repeat(64)}`, Buffer.from('x'))
    await ceph.put('backups', `${prefix}/keys/below/${'a'.repeat(64)}`, Buffer.from('x'))
    return {
      backend: await open(parseLocation(`s3:${ceph.endpoint}/backups/${prefix}`)),
      put: (handle: Handle, bytes: Buffer) => ceph.put('backups', keyOf(prefix, handle), bytes),
      remove: (handle: Handle) => ceph.remove('backups', keyOf(prefix, handle)),
    }
  }
  backendSuite(t, 's3', () => subject(async location => new S3Backend(location, DEFAULT_OPTIONS, ceph.env)))
  writingSuite(t, 's3', async () => {
    const location = parseLocation(`s3:${ceph.endpoint}/backups/written/${repositories++}`)
    return { backend: new S3Backend(location, DEFAULT_OPTIONS, ceph.env), reader: new S3Backend(location, DEFAULT_OPTIONS, ceph.env) }
  })
  backendSuite(t, 's3, with retries and limits', () => {
    Object.assign(process.env, ceph.env)
    return subject(location => openBackend(location))
  })

  const stat = async (location: string, env: NodeJS.ProcessEnv = ceph.env, extended = {}) => {
    for (const name of AWS) delete process.env[name]
    Object.assign(process.env, env)
    const backend = new S3Backend(parseLocation(location), { ...DEFAULT_OPTIONS, extended })
    return backend.stat(CONFIG).finally(() => backend.close())
  }

  t.test('every spelling of a location', async t => {
    await ceph.put('backups', 'config', Buffer.from('1'))
    await ceph.put('backups', 'in/a/folder/config', Buffer.from('22'))
    for (const [location, size] of [[`s3:http://${host}/backups`, 1], [`s3:http://${host}/backups/`, 1], [`s3:http://${host}/backups/in/a/folder`, 2], [`s3:http://${host}/backups//in/a//folder/`, 2]] as const) {
      t.equal((await stat(location)).size, size, location)
    }
  })

  t.test('keys from the environment and from files', async t => {
    const location = `s3:${ceph.endpoint}/backups`
    const credentials = join(dir, 'credentials')
    const { accessKeyId, secretAccessKey } = ceph
    writeFileSync(credentials, `[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n[ours]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`)
    const nowhere = { AWS_SHARED_CREDENTIALS_FILE: join(dir, 'none'), AWS_CONFIG_FILE: join(dir, 'none'), AWS_EC2_METADATA_DISABLED: 'true' }
    const files = { ...nowhere, AWS_SHARED_CREDENTIALS_FILE: credentials }
    t.equal((await stat(location, { ...nowhere, ...ceph.env })).size, 1)
    t.equal((await stat(location, { ...files, AWS_PROFILE: 'ours' })).size, 1, 'a profile')
    t.equal((await stat(location, { ...files, ...ceph.env, AWS_PROFILE: 'default' })).size, 1, 'keys in the environment come first')
    await t.rejects(stat(location, nowhere), { name: 'AccessError', retryable: false, hint: /^no keys for it/ })
    await t.rejects(stat(location, { ...nowhere, AWS_ACCESS_KEY_ID: 'a' }), { name: 'AccessError', hint: 'AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not' })
    for (const env of [{ ...ceph.env, AWS_SECRET_ACCESS_KEY: 'wrong' }, { ...ceph.env, AWS_ACCESS_KEY_ID: 'nobody' }, files]) await t.rejects(stat(location, env), { name: 'AccessError', retryable: false })
  })

  t.test('what the store does not have, or does not allow', async t => {
    await t.rejects(stat(`s3:${ceph.endpoint}/nobodys-bucket`), { code: 'ERR_NOT_FOUND' })
    const backend = new S3Backend(parseLocation(`s3:${ceph.endpoint}/nobodys-bucket`), DEFAULT_OPTIONS, ceph.env)
    await t.rejects(backend.list('keys'), { code: 'ERR_NOT_FOUND', file: 'bucket nobodys-bucket' })
    await backend.close()
  })

  t.test('a list of several pages', async t => {
    const names = Array.from({ length: 1100 }, (_, i) => i.toString(16).padStart(4, '0').repeat(16))
    for (let i = 0; i < names.length; i += 50) await Promise.all(names.slice(i, i + 50).map(name => ceph.put('backups', keyOf('many', { type: 'data', name }), Buffer.from(name.slice(0, 3)))))
    const backend = new S3Backend(parseLocation(`s3:${ceph.endpoint}/backups/many`), DEFAULT_OPTIONS, ceph.env)
    const found = await backend.list('data')
    t.strictSame(found.map(({ name }) => name).sort(), names)
    t.ok(found.every(({ size }) => size === 3))
    await backend.close()
  })
}
