import t, { type Test } from 'tap'
import { parseLocation } from '../../src/backend/location.js'
import { DEFAULT_OPTIONS } from '../../src/backend/options.js'
import { parseRestLocation } from '../../src/backend/rest-location.js'
import { RestBackend } from '../../src/backend/rest.js'
import { RetryBackend } from '../../src/backend/retry.js'
import { backendSuite } from '../fixtures/backend-suite.js'
import { randomBytes } from '../fixtures/bytes.js'
import { fault, FaultyHttp } from '../fixtures/faulty-http.js'

const NAME = 'ab'.repeat(32)
const PACK = { type: 'data', name: NAME } as const
const DATA = randomBytes('rest', 100_000)

async function start(t: Test): Promise<{ server: FaultyHttp, rest: RestBackend, retrying: RetryBackend }> {
  const server = await FaultyHttp.start()
  server.files.set(`/data/${NAME}`, DATA)
  const rest = new RestBackend(parseLocation(server.location), DEFAULT_OPTIONS, {})
  t.teardown(async () => {
    await rest.close()
    await server.stop()
  })
  return { server, rest, retrying: new RetryBackend(rest, { timeoutMs: 3000, random: () => 0 }) }
}

for (const version of [1, 2] as const) {
  backendSuite(t, `rest, version ${version} of the protocol`, async () => {
    const server = await FaultyHttp.start()
    server.version = version
    const rest = new RestBackend(parseLocation(server.location), DEFAULT_OPTIONS, {})
    const pathOf = ({ type, name }: { type: string, name: string }) => type === 'config' ? '/config' : `/${type}/${name}`
    return {
      backend: Object.assign(rest, { close: () => server.stop() }),
      put: (handle, bytes) => { server.files.set(pathOf(handle), bytes) },
      remove: handle => { server.files.delete(pathOf(handle)) },
    }
  })
}

t.test('locations', async t => {
  for (const [text, href, user, password] of [
    ['rest:http://host:8000/', 'http://host:8000/', null, null],
    ['rest:https://host', 'https://host/', null, null],
    ['rest:https://host/a/b', 'https://host/a/b/', null, null],
    ['rest:https://anna:secret@host:8000/a/', 'https://host:8000/a/', 'anna', 'secret'],
    ['rest:https://anna:p%40ss%2Fw%3Ard@host/', 'https://host/', 'anna', 'p@ss/w:rd'],
    ['rest:https://anna:p@ss@host/', 'https://host/', 'anna', 'p@ss'],
    ['rest:https://anna:100%@host/', 'https://host/', 'anna', '100%'],
    ['rest:https://anna@host/', 'https://host/', 'anna', ''],
    ['rest:http://[::1]:8000/a', 'http://[::1]:8000/a/', null, null],
    ['rest:https://[2001:db8::1]/', 'https://[2001:db8::1]/', null, null],
  ] as const) {
    const { url, credentials } = parseRestLocation(parseLocation(text), {})
    t.equal(url.href, href, text)
    t.strictSame(credentials, user === null ? null : { user, password }, text)
  }
  const env = { RESTIC_REST_USERNAME: 'bert', RESTIC_REST_PASSWORD: 'hidden' }
  t.strictSame(parseRestLocation(parseLocation('rest:https://host/'), env).credentials, { user: 'bert', password: 'hidden' })
  t.strictSame(parseRestLocation(parseLocation('rest:https://anna:secret@host/'), env).credentials, { user: 'anna', password: 'secret' })
  for (const text of ['rest:', 'rest:host:8000', 'rest:/srv', 'rest:ftp://host/', 'rest:https://']) t.throws(() => parseRestLocation(parseLocation(text), {}), { code: 'ERR_USAGE', hint: /^example/ }, text)
  t.throws(() => parseRestLocation(parseLocation('rest:http+unix:///tmp/s:/'), {}), { code: 'ERR_UNSUPPORTED' })
})

t.test('what a server does wrong is noticed, and is worth another try', async t => {
  for (const name of ['reset', 'cut', 'short', 'otherRange', 'garbage'] as const) {
    const { server, rest, retrying } = await start(t)
    server.faults = [fault[name]]
    await t.rejects(rest.read(PACK, 1000, 50_000), { code: 'ERR_UNREACHABLE', retryable: true }, name)
    server.faults = [fault[name], fault[name]]
    t.ok((await retrying.read(PACK, 1000, 50_000)).equals(DATA.subarray(1000, 51_000)), `${name}, then right`)
    t.equal(server.faults.length, 0)
  }
  for (const status of [408, 429, 500, 502, 503, 504]) {
    const { server, retrying } = await start(t)
    server.faults = [fault.status(status)]
    t.ok((await retrying.readAll(PACK, 1e6)).equals(DATA), `${status}, then right`)
  }
})

t.test('what will not pass is not tried again', async t => {
  for (const [status, expected] of [
    [401, { name: 'AccessError' }], [403, { name: 'AccessError', file: /^pack/ }], [404, { name: 'NotFoundError' }], [400, { name: 'RefusedError' }], [302, { name: 'RefusedError', message: /elsewhere/ }],
  ] as const) {
    const { server, retrying } = await start(t)
    server.faults = [fault.status(status, status === 302 ? { location: 'http://elsewhere/' } : {})]
    await t.rejects(retrying.read(PACK, 0, 10), { ...expected, retryable: false }, String(status))
    t.equal(server.seen.length, 1)
  }
})

t.test('a server that ignores ranges', async t => {
  for (const name of ['ignoreRange', 'ignoreRangeChunked'] as const) {
    const { server, rest } = await start(t)
    server.faults = Array(3).fill(fault[name])
    t.ok((await rest.read(PACK, 0, 500)).equals(DATA.subarray(0, 500)), name)
    t.ok((await rest.read(PACK, 70_000, 30_000)).equals(DATA.subarray(70_000)), `${name}, to the end`)
    await t.rejects(rest.read(PACK, 70_000, 30_001), name === 'ignoreRange' ? { code: 'ERR_CORRUPT' } : { code: 'ERR_UNREACHABLE' })
  }
})

t.test('connections are used again, and no more than allowed', async t => {
  const { server, rest } = await start(t)
  for (let i = 0; i < 20; i++) await rest.read(PACK, i, 100)
  t.equal(server.connections, 1)
  await Promise.all(Array.from({ length: 100 }, (_, i) => rest.read(PACK, i, 10_000)))
  t.ok(server.connections <= 12, `${server.connections} connections`)
})

t.test('a kept connection that the server closed is no fault', async t => {
  const { server, rest } = await start(t)
  for (let i = 0; i < 5; i++) {
    await Promise.all([1, 2, 3].map(() => rest.read(PACK, 0, 100)))
    server.reset()
    t.ok((await rest.read(PACK, 0, 100)).equals(DATA.subarray(0, 100)))
  }
})

t.test('a server that says nothing', async t => {
  for (const name of ['stall', 'stallHalfway'] as const) {
    const { server, rest, retrying } = await start(t)
    server.faults = [fault[name]]
    const started = performance.now()
    await t.rejects(rest.read(PACK, 0, 1000, { idleMs: 200 }), { code: 'ERR_UNREACHABLE', retryable: true }, name)
    t.ok(performance.now() - started < 1500)
    server.faults = [fault[name]]
    t.ok((await retrying.read(PACK, 0, 1000)).equals(DATA.subarray(0, 1000)), `${name}: another connection is tried in time`)
    server.faults = Array(50).fill(fault[name])
    const controller = new AbortController()
    const reads = Array.from({ length: 20 }, () => retrying.read(PACK, 0, 1000, { signal: controller.signal }).then(() => null, (error: Error) => error))
    await new Promise(resolve => setTimeout(resolve, 100))
    const aborted = performance.now()
    controller.abort()
    for (const error of await Promise.all(reads)) t.match(error, { code: 'ERR_ABORTED' })
    t.ok(performance.now() - aborted < 100, `given up within ${Math.round(performance.now() - aborted)} ms`)
  }
})

t.test('a list that is none', async t => {
  for (const body of ['<html></html>', '{}', '"x"']) {
    const { server, rest } = await start(t)
    server.faults = [(_, response) => { response.writeHead(200, { 'content-type': 'application/vnd.x.restic.rest.v2' }).end(body) }]
    await t.rejects(rest.list('keys'), { code: 'ERR_UNREACHABLE' }, body)
  }
  const { server, rest } = await start(t)
  server.faults = [(_, response) => { response.writeHead(200, { 'content-type': 'application/vnd.x.restic.rest.v2' }).end(JSON.stringify([null, 1, { name: '../x', size: 1 }, { name: NAME, size: -1 }, { name: NAME, size: 3 }])) }]
  t.strictSame(await rest.list('keys'), [{ name: NAME, size: 3 }], 'entries that make no sense are left out')
  server.faults = [fault.status(404, { server: 'rclone/v1.60' })]
  await t.rejects(rest.list('keys'), { code: 'ERR_NOT_FOUND' }, 'what rclone says when something is wrong with it')
})

t.test('a name that is no file name of a repository leads nowhere', async t => {
  const { server, rest } = await start(t)
  for (const name of ['../secret', '', '.', NAME.toUpperCase(), `${NAME}/`]) await t.rejects(rest.readAll({ type: 'keys', name }, 10), { code: 'ERR_USAGE' }, JSON.stringify(name))
  t.strictSame(server.seen, [])
})

t.test('nobody there', async t => {
  const { server, rest } = await start(t)
  await server.stop()
  await t.rejects(rest.read(PACK, 0, 1), { code: 'ERR_UNREACHABLE', retryable: true, message: /refuses the connection/ })
})
