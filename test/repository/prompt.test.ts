import { PassThrough } from 'node:stream'
import t from 'tap'
import { promptPassword } from '../../src/repository/prompt.js'

function terminal(interactive = true) {
  const raw: boolean[] = []
  const shown: string[] = []
  const input = Object.assign(new PassThrough(), { setRawMode: (on: boolean) => raw.push(on) })
  return { interactive, input, raw, shown, write: (text: string) => { shown.push(text) } }
}

async function typed(chunks: (string | Buffer)[], interactive = true): Promise<string> {
  const made = terminal(interactive)
  for (const chunk of chunks) made.input.write(chunk)
  made.input.end()
  return (await promptPassword(made, 'password: ')).toString()
}

t.test('a line typed at a terminal, with its editing keys', async t => {
  for (const [name, chunks, expected] of [
    ['plain', ['secret\r'], 'secret'],
    ['in pieces', ['s', 'ec', 'ret', '\n'], 'secret'],
    ['spaces belong to it', [' a b \r'], ' a b '],
    ['backspace', ['sx\x7fecrt\x08et\r'], 'secret'],
    ['backspace over a character of several bytes', ['aé\x7f€\x7fb\r'], 'ab'],
    ['backspace at the start', ['\x7f\x7fa\r'], 'a'],
    ['Ctrl-U', ['wrong\x15right\r'], 'right'],
    ['Ctrl-D at the start', ['\x04'], ''],
    ['Ctrl-D later', ['a\x04b\r'], 'ab'],
    ['the end', ['abc'], 'abc'],
    ['nothing', [], ''],
  ] as [string, string[], string][]) t.equal(await typed(chunks), expected, name)
})

t.test('it is not shown, and the terminal is as before', async t => {
  const made = terminal()
  made.input.write('secret\r')
  await promptPassword(made, 'password: ')
  t.strictSame(made.shown, ['password: ', '\n'])
  t.strictSame(made.raw, [true, false])
  t.equal(made.input.listenerCount('data'), 0)
})

t.test('Ctrl-C and abort give up, and leave the terminal as before', async t => {
  const made = terminal()
  made.input.write('sec\x03')
  await t.rejects(promptPassword(made, 'password: '), { code: 'ERR_ABORTED' })
  t.strictSame(made.raw, [true, false])
  const abort = new AbortController()
  const other = terminal()
  const asked = promptPassword(other, 'password: ', { signal: abort.signal })
  abort.abort()
  await t.rejects(asked, { code: 'ERR_ABORTED' })
  t.strictSame(other.raw, [true, false])
  await t.rejects(promptPassword(other, 'password: ', { signal: abort.signal }), { code: 'ERR_ABORTED' })
})

t.test('from a pipe it is the first line, with nothing asked', async t => {
  t.equal(await typed(['secret\nmore\n'], false), 'secret')
  t.equal(await typed(['secret\r\n'], false), 'secret')
  t.equal(await typed(['a\x7fb\x03\n'], false), 'a\x7fb\x03', 'control characters are bytes like others')
  const made = terminal(false)
  made.input.end('x\n')
  await promptPassword(made, 'password: ')
  t.strictSame([made.shown, made.raw], [[], []])
})

t.test('asked twice, the second answer is the second line typed', async t => {
  const made = terminal()
  const first = promptPassword(made, '? ')
  made.input.write('one\r')
  t.equal((await first).toString(), 'one')
  const second = promptPassword(made, '? ')
  made.input.write('two\r')
  t.equal((await second).toString(), 'two')
})
