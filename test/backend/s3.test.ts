import t, { type Test } from 'tap'
import { parseLocation } from '../../src/backend/location.js'
import { DEFAULT_OPTIONS } from '../../src/backend/options.js'
import { RetryBackend } from '../../src/backend/retry.js'
import { S3Backend } from '../../src/backend/s3.js'
import { randomBytes } from '../fixtures/bytes.js'
import { fault, FaultyHttp } from '../fixtures/faulty-http.js'

// What a store does wrong, without a store: to read an object is to read a file over HTTP. A real one is in s3-ceph.test.ts.
const NAME = 'ab'.repeat(32)
const PACK = { type: 'data', name: NAME } as const
const DATA = randomBytes('s3', 100_000)
const KEYS = { AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'secret' }

async function start(t: Test): Promise<{ server: FaultyHttp, s3: S3Backend, retrying: RetryBackend }> {
  const server = await FaultyHttp.start()
  server.files.set(`/bucket/folder/data/ab/${NAME}`, DATA)
  const s3 = new S3Backend(parseLocation(`s3:${server.location.slice('rest:'.length)}bucket/folder`), DEFAULT_OPTIONS, KEYS)
  t.teardown(async () => {
    await s3.close()
    await server.stop()
  })
  return { server, s3, retrying: new RetryBackend(s3, { timeoutMs: 6000, random: () => 0 }) }
}

const xml = (code: string, more = '') => `<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message>${more}</Error>`

t.test('what a store does wrong is noticed, and is worth another try', async t => {
  for (const name of ['reset', 'cut', 'short', 'otherRange', 'garbage'] as const) {
    const { server, s3, retrying } = await start(t)
    server.faults = [fault[name]]
    await t.rejects(s3.read(PACK, 1000, 50_000), { code: 'ERR_UNREACHABLE', retryable: true }, name)
    server.faults = [fault[name]]
    t.ok((await retrying.read(PACK, 1000, 50_000)).equals(DATA.subarray(1000, 51_000)), `${name}, then right`)
  }
  for (const status of [429, 500, 503]) {
    const { server, retrying } = await start(t)
    server.faults = [fault.status(status)]
    t.ok((await retrying.readAll(PACK, 1e6)).equals(DATA), `${status}, then right`)
    t.equal(server.seen.length, 2, 'and the SDK does not try by itself')
  }
})

t.test('what will not pass is not tried again', async t => {
  for (const [status, code, expected] of [
    [404, 'NoSuchKey', { name: 'NotFoundError' }], [404, 'NoSuchBucket', { name: 'NotFoundError', file: 'bucket bucket' }],
    [403, 'AccessDenied', { name: 'AccessError', hint: /AccessDenied/ }], [403, 'SignatureDoesNotMatch', { name: 'AccessError', hint: /AWS_SECRET_ACCESS_KEY/ }],
    [403, 'RequestTimeTooSkewed', { name: 'RefusedError', hint: /clock/ }], [400, 'AuthorizationHeaderMalformed', { name: 'RefusedError', hint: /-o s3\.region=/ }],
    [301, 'PermanentRedirect', { name: 'RefusedError', hint: /-o s3\.region=/ }],
  ] as const) {
    const { server, retrying } = await start(t)
    server.faults = [(_, response) => { response.writeHead(status, { 'content-type': 'application/xml' }).end(xml(code, '<Region>eu-west-1</Region>')) }]
    await t.rejects(retrying.read(PACK, 0, 10), { ...expected, retryable: false }, `${status} ${code}`)
    t.equal(server.seen.length, 1)
  }
})

t.test('a store that ignores ranges', async t => {
  const { server, s3 } = await start(t)
  server.faults = Array(3).fill(fault.ignoreRange)
  t.ok((await s3.read(PACK, 0, 500)).equals(DATA.subarray(0, 500)))
  t.ok((await s3.read(PACK, 70_000, 30_000)).equals(DATA.subarray(70_000)))
  await t.rejects(s3.read(PACK, 70_000, 30_001), { code: 'ERR_CORRUPT' })
})

t.test('a store that says nothing', async t => {
  for (const name of ['stall', 'stallHalfway'] as const) {
    const { server, s3, retrying } = await start(t)
    server.faults = [fault[name]]
    await t.rejects(s3.read(PACK, 0, 1000, { idleMs: 200 }), { code: 'ERR_UNREACHABLE', retryable: true }, name)
    server.faults = [fault[name]]
    t.ok((await retrying.read(PACK, 0, 1000)).equals(DATA.subarray(0, 1000)), `${name}: another connection is tried in time`)
    server.faults = Array(20).fill(fault[name])
    const controller = new AbortController()
    const reads = Array.from({ length: 5 }, () => retrying.read(PACK, 0, 1000, { signal: controller.signal }).then(() => null, (error: Error) => error))
    await new Promise(resolve => setTimeout(resolve, 200))
    const aborted = performance.now()
    controller.abort()
    for (const error of await Promise.all(reads)) t.match(error, { code: 'ERR_ABORTED' })
    t.ok(performance.now() - aborted < 100, `given up within ${Math.round(performance.now() - aborted)} ms`)
  }
})

t.test('nobody there', async t => {
  const { server, s3 } = await start(t)
  await server.stop()
  await t.rejects(s3.read(PACK, 0, 1), { code: 'ERR_UNREACHABLE', retryable: true, message: /refuses the connection/ })
})

t.test('nothing of it is said on standard error', async t => {
  const warnings: string[] = []
  const listen = (warning: Error) => warnings.push(warning.message)
  process.on('warning', listen)
  const { s3 } = await start(t)
  await s3.read(PACK, 0, 1)
  await new Promise(resolve => setImmediate(resolve))
  process.off('warning', listen)
  t.strictSame(warnings, [])
})
