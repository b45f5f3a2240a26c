import { existsSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { ask, askAll } from '../../src/mount/status/client.js'
import { Incidents } from '../../src/mount/status/incidents.js'
import { MAX_REQUEST_BYTES } from '../../src/mount/status/protocol.js'
import { runtimeDirectory } from '../../src/mount/status/runtime-directory.js'
import { StatusServer } from '../../src/mount/status/server.js'
import { CorruptError, DaybookError, faultFields } from '../../src/errors.js'
import { silentLogger } from '../../src/util/log.js'
import { eventually } from '../fixtures/run.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'

t.setTimeout(60_000)
const scratch = makeScratch('st')
t.teardown(() => removeScratch(scratch))
let count = 0

/** A server with its socket in a directory of its own. */
async function serve(t: { teardown(done: () => void): unknown }, { answer = { fine: true } as object, patienceMs = 60_000 } = {}): Promise<{ path: string, directory: string, asked: () => number }> {
  const directory = join(scratch, `run${count++}`)
  let asked = 0
  const server = new StatusServer({ log: silentLogger, directory, patienceMs, freshMs: 60_000, answers: { status: async () => { asked++; return { status: answer } } } })
  t.teardown(() => server.close())
  return { path: (await server.listen())!, directory, asked: () => asked }
}

/** All that comes until the other side hangs up. */
function talk(path: string, bytes: string | Buffer, half = false): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(path)
    let said = ''
    socket.on('data', chunk => { said += chunk }).on('error', () => {}).on('close', () => resolve(said))
    if (half) socket.end(bytes)
    else socket.write(bytes)
  })
}

t.test('one line each way', async t => {
  const { path, directory } = await serve(t, { answer: { pid: 1, mounts: [] } })
  t.equal(statSync(directory).mode & 0o777, 0o700)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.equal(await talk(path, '{"daybook":1,"ask":"status"}\n'), '{"daybook":1,"status":{"pid":1,"mounts":[]}}\n')
  t.equal(await talk(path, '{"daybook":1,"ask":"status"}\n', true), '{"daybook":1,"status":{"pid":1,"mounts":[]}}\n', 'also to who hangs up his half')
  t.strictSame(await ask(path, 'status'), { daybook: 1, status: { pid: 1, mounts: [] } })
  t.strictSame(await askAll(directory), [{ pid: 1, mounts: [] }])
})

t.test('what is no question gets no answer', async t => {
  const { path, asked } = await serve(t)
  for (const { name, said, answer } of [
    { name: 'no JSON', said: 'status\n', answer: /^\{"daybook":1,"error":"not a line of JSON"\}\n$/ },
    { name: 'null', said: 'null\n', answer: /not version 1/ },
    { name: 'another version', said: '{"daybook":2,"ask":"status"}\n', answer: /not version 1/ },
    { name: 'no question', said: '{"daybook":1}\n', answer: /nothing is asked for/ },
    { name: 'an unknown question', said: '{"daybook":1,"ask":"password"}\n', answer: /not known here/ },
    { name: 'the name of something inherited', said: '{"daybook":1,"ask":"constructor"}\n', answer: /not known here/ },
    { name: 'bytes', said: '\xff\xfe\0\n', answer: /not a line of JSON/ },
    { name: 'a line too long, ended', said: `${'x'.repeat(MAX_REQUEST_BYTES)}\n`, answer: /not a line of JSON|^$/ },
    { name: 'a line without end', said: 'x'.repeat(1 << 20), answer: /not a line of JSON|^$/ },
    { name: 'nested', said: `${'['.repeat(4000)}\n`, answer: /not a line of JSON/ },
  ]) t.match(await talk(path, said), answer, name)
  t.equal(await talk(path, '', true), '', 'nothing at all')
  t.equal(asked(), 0)
  t.match(await ask(path, 'status'), { status: { fine: true } }, 'and the next one is answered')
})

t.test('a client that never reads, or never speaks, is hung up on, and holds up nobody', async t => {
  const length = 8 << 20
  const { path, asked } = await serve(t, { answer: { much: 'x'.repeat(length) }, patienceMs: 3000 })
  const before = process.memoryUsage.rss()
  const stuck: Socket[] = []
  for (let n = 0; n < 10; n++) {
    const socket = connect(path).on('error', () => {}).pause()
    if (n % 2 === 0) socket.write('{"daybook":1,"ask":"status"}\n')
    stuck.push(socket)
  }
  t.match(await ask(path, 'status'), { status: { much: /^x/ } })
  t.equal(asked(), 1, 'the answer was made once')
  t.ok(process.memoryUsage.rss() - before < 100 << 20, 'and is not kept once for each')
  // Hung up on after the others, having come after them.
  await talk(path, '')
  const received = await Promise.all(stuck.map(socket => new Promise<number>(resolve => {
    let bytes = 0
    socket.on('data', chunk => { bytes += chunk.length }).on('close', () => resolve(bytes)).resume()
  })))
  t.ok(received.every(bytes => bytes < length), `they have got ${Math.max(...received)} bytes at most`)
})

t.test('more clients than a few are turned away', async t => {
  const { path } = await serve(t, { patienceMs: 3000 })
  const sockets = Array.from({ length: 40 }, () => connect(path).on('error', () => {}).resume())
  await eventually('some are closed at once', () => sockets.filter(socket => socket.destroyed).length >= 24)
  await eventually('and the rest in time', () => sockets.every(socket => socket.destroyed))
  t.match(await ask(path, 'status'), { status: { fine: true } })
})

t.test('an answer that cannot be made is an error, for who asked', async t => {
  const directory = join(scratch, 'failing')
  const server = new StatusServer({ log: silentLogger, directory, answers: { status: () => Promise.reject(new Error('secret detail')) } })
  t.teardown(() => server.close())
  const path = await server.listen()
  t.equal(await talk(path!, '{"daybook":1,"ask":"status"}\n'), '{"daybook":1,"error":"it cannot be told"}\n')
})

t.test('a directory that cannot be used is no error', async t => {
  for (const directory of ['/proc/nowhere', join(scratch, 'x'.repeat(200)), '/dev/null/run']) {
    t.equal(await new StatusServer({ log: silentLogger, directory, answers: {} }).listen(), null, directory)
  }
})

t.test('the client bears with whatever is at a socket', async t => {
  const directory = join(scratch, 'odd')
  await serve(t) // the scratch directory is there
  const own = new StatusServer({ log: silentLogger, directory, answers: { status: async () => ({ status: { pid: 7, mounts: [] } }) } })
  t.teardown(() => own.close())
  await own.listen()
  const says: [string, (socket: Socket) => void][] = [
    ['nothing', socket => socket.end()], ['no-json', socket => socket.end('hello\n')], ['null', socket => socket.end('null\n')], ['other', socket => socket.end('{"daybook":9}\n')],
    ['no-mounts', socket => socket.end('{"daybook":1,"status":{"mounts":5}}\n')], ['reset', socket => socket.destroy()],
  ]
  for (const [name, say] of says) {
    const server = createServer(socket => say(socket.on('error', () => { /* the client went away */ }))).listen(join(directory, `${name}.sock`))
    t.teardown(() => server.close())
  }
  writeFileSync(join(directory, 'file.sock'), '')
  t.strictSame(await askAll(directory), [{ pid: 7, mounts: [] }])
  t.strictSame(await askAll(join(scratch, 'not there')), [])
  const silent = createServer(() => {}).listen(join(directory, 'silent.sock'))
  await t.rejects(ask(join(directory, 'silent.sock'), 'status', 100), { code: 'ETIMEDOUT' })
  silent.close()
  t.ok(existsSync(directory))
})

t.test('where sockets are', async t => {
  for (const [name, env, uid, wanted] of [
    ['root', {}, 0, '/run/daybook'],
    ['root in a session', { XDG_RUNTIME_DIR: '/run/user/0' }, 0, '/run/daybook'],
    ['a user', { XDG_RUNTIME_DIR: '/run/user/1000' }, 1000, '/run/user/1000/daybook'],
    ['a user without a session', {}, 1000, '/run/user/1000/daybook'],
    ['a relative path does not count', { XDG_RUNTIME_DIR: 'run' }, 1000, '/run/user/1000/daybook'],
    ['said otherwise', { DAYBOOK_RUNTIME_DIR: '/srv/run', XDG_RUNTIME_DIR: '/run/user/1000' }, 0, '/srv/run'],
  ] as const) t.equal(runtimeDirectory(env, uid), wanted, name)
})

t.test('incidents are what the log hears of', async t => {
  let now = 0
  const incidents = new Incidents('first', () => now)
  const lines: string[] = []
  const log = incidents.listen({ ...silentLogger, warn: message => { lines.push(message) }, error: message => { lines.push(message) } })
  const wrong = (pack: string) => faultFields(new CorruptError('blob ab', 'x', { cause: new CorruptError(`pack ${pack}`, 'wrong MAC') }))
  log.info('no incident', { code: 'ERR_CORRUPT', damaged: 'pack 0' })
  log.warn('nothing special')
  log.error('request: corrupt blob', wrong('1'))
  now = 1000
  log.error('request: corrupt blob', wrong('1'))
  log.warn('pack 2 is damaged at second', { damaged: 'pack 2', location: 'second' })
  log.error('request: gone', faultFields(new DaybookError('ERR_UNREACHABLE', 'gone')))
  log.error('request: bug', faultFields(new TypeError('x')))
  t.equal(lines.length, 6, 'all is passed on')
  t.strictSame(incidents.errors, { ERR_CORRUPT: 2, ERR_UNREACHABLE: 1, other: 1 })
  t.strictSame(incidents.damage, { count: 2, last: [
    { file: 'pack 2', location: 'second', reason: 'pack 2 is damaged at second', times: 1, time: '1970-01-01T00:00:01.000Z' },
    { file: 'pack 1', location: 'first', reason: 'request: corrupt blob', times: 2, time: '1970-01-01T00:00:01.000Z' },
  ] })
  for (let n = 0; n < 5000; n++) log.error('more', wrong(`many ${n}`))
  t.equal(incidents.damage.count, 1000, 'bounded')
  t.equal(incidents.damage.last.length, 20)
})
