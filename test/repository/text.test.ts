import t from 'tap'
import { splitCommand } from '../../src/util/split-command.js'
import { decodeText, trimSpace } from '../../src/repository/text-file.js'

t.test('splitCommand splits as restic does', async t => {
  for (const [command, ...words] of [
    ['foo', 'foo'],
    [' foo  bar\tbaz\n', 'foo', 'bar', 'baz'],
    ['\'foo\' \'bar baz\'', 'foo', 'bar baz'],
    ['"foo" "bar\'s baz"', 'foo', 'bar\'s baz'],
    ['foo "" bar', 'foo', 'bar'],
    ['a"b c"d', 'a', 'b c', 'd'],
    ['"C:\\dir\\x" y', 'C:\\dir\\x', 'y'],
    ['cat \'/é ü\'', 'cat', '/é ü'],
    ['"a\\"b"', 'a\\"b'],
    ['\\"a', '"a'],
  ]) t.strictSame(splitCommand('command', command), words, command)
  for (const [command, message] of [['', /is empty/], ['""', /is empty/], ['foo "bar', /double quote/], ['foo \'bar', /single quote/]] as const) {
    t.throws(() => splitCommand('command', command), { code: 'ERR_USAGE', message }, command)
  }
})

t.test('trimSpace cuts what Go calls space, and nothing else', async t => {
  for (const [text, trimmed] of [
    ['', ''], ['a', 'a'], [' \t\n\v\f\r a b \r\n', 'a b'], ['\u0085\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000a\u3000\u205f\u202f\u2029\u2028\u2003\u1680\u00a0\u0085', 'a'],
    ['\ufeffa\u200b', '\ufeffa\u200b'], ['   ', ''], ['\u3000', ''],
  ]) t.equal(trimSpace(Buffer.from(text)).toString(), trimmed, encodeURI(text))
  for (const bytes of [[0xc2], [0x80], [0xe2, 0x80], [0x85], [0xa0], [0x41, 0xe3, 0x80]]) t.ok(trimSpace(Buffer.from(bytes)).equals(Buffer.from(bytes)), `half a character: ${bytes}`)
  t.equal(trimSpace(Buffer.alloc(1 << 20, ' ')).length, 0, 'a MiB of spaces')
})

t.test('decodeText', async t => {
  t.equal(decodeText(Buffer.from('\ufeffä')).toString(), 'ä')
  t.equal(decodeText(Buffer.from('\ufeffä', 'utf16le')).toString(), 'ä')
  t.equal(decodeText(Buffer.from('\ufeffä', 'utf16le').swap16()).toString(), 'ä')
  t.ok(decodeText(Buffer.from([0xff, 0x80])).equals(Buffer.from([0xff, 0x80])), 'other bytes stay')
})
