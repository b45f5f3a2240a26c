import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { DaybookError } from '../../src/errors.js'
import { logWriter } from '../../src/mount/log-file.js'
import { errorOf, readOutcome, ReadyPipe } from '../../src/mount/ready.js'

const dir = mkdtempSync(join(tmpdir(), 'daybook-ready-'))
t.teardown(() => rmSync(dir, { recursive: true }))

/** What the child's end wrote, as the parent reads it, whole and byte by byte. */
async function through(t: { same: typeof import('tap').t.same }, write: (pipe: ReadyPipe) => void): Promise<{ outcome: Awaited<ReturnType<typeof readOutcome>>, progress: unknown[] }> {
  const file = join(dir, 'pipe')
  const fd = openSync(file, 'w')
  write(new ReadyPipe(fd))
  try { closeSync(fd) } catch { /* closed with the outcome */ }
  const bytes = readFileSync(file)
  const read = async (chunks: Buffer[]) => {
    const progress: unknown[] = []
    const outcome = await readOutcome((async function * () { yield * chunks })(), (...args) => progress.push(args))
    return { outcome, progress }
  }
  const whole = await read([bytes])
  t.same(await read([...bytes].map(byte => Buffer.from([byte]))), whole, 'byte by byte')
  return whole
}

t.test('ready, after progress', async t => {
  const { outcome, progress } = await through(t, pipe => {
    pipe.tell({ type: 'progress', stage: 'loading index', done: 1, total: 2 })
    pipe.tell({ type: 'ready', snapshots: 3, newest: 'näher' })
    pipe.tell({ type: 'ready', snapshots: 4, newest: null })
  })
  t.match(outcome, { type: 'ready', snapshots: 3, newest: 'näher' }, 'the first outcome is the last word')
  t.same(progress, [['loading index', 1, 2]])
})

t.test('an error is the same error on the other side', async t => {
  const { outcome } = await through(t, pipe => pipe.fail(new DaybookError('ERR_WRONG_PASSWORD', 'wrong password', 'try another')))
  if (outcome?.type !== 'failed') return t.fail('not failed')
  const error = errorOf(outcome)
  t.ok(error instanceof DaybookError)
  t.match(error, { code: 'ERR_WRONG_PASSWORD', message: 'wrong password', hint: 'try another' })
})

t.test('no outcome', async t => {
  t.equal((await through(t, () => {})).outcome, null)
})

t.test('a log that grows too long starts anew, and one that cannot be written is no error', async t => {
  const file = join(dir, 'log')
  const fd = openSync(file, 'a')
  const write = logWriter(fd, 1000)
  for (let i = 0; i < 100; i++) write(`line ${String(i).padStart(94, '0')}\n`)
  t.ok(statSync(file).size <= 1200, `${statSync(file).size} bytes`)
  t.match(readFileSync(file, 'utf8'), /0099\n$/, 'the newest line is there')
  closeSync(fd)
  write('nobody hears this\n')
})
