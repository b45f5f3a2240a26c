import t from 'tap'
import { printable, printableName } from '../../src/cli/printable.js'
import { shellQuote } from '../../src/cli/shell-quote.js'

t.test('names are safe on a terminal', async t => {
  for (const { name, bytes, shown } of [
    { name: 'plain', bytes: 'letter.txt', shown: 'letter.txt' },
    { name: 'space and quotes stay', bytes: `it's "so"`, shown: `it's "so"` },
    { name: 'other scripts stay', bytes: 'żółć 日本 🎈', shown: 'żółć 日本 🎈' },
    { name: 'escape sequence', bytes: '\x1b]0;title\x07', shown: '\\033]0;title\\007' },
    { name: 'newline and tab', bytes: 'a\nb\tc', shown: 'a\\nb\\tc' },
    { name: 'backslash', bytes: 'a\\nb', shown: 'a\\\\nb' },
    { name: 'C1 control', bytes: '\u009b31m', shown: '\\302\\23331m' },
    { name: 'direction override', bytes: 'a\u202egpj.exe', shown: 'a\\342\\200\\256gpj.exe' },
    { name: 'not UTF-8', bytes: Buffer.from([0x61, 0xff, 0xc3, 0x62]), shown: 'a\\377\\303b' },
    { name: 'cut off at the end', bytes: Buffer.from([0xe2, 0x82]), shown: '\\342\\202' },
    { name: 'overlong', bytes: Buffer.from([0xc0, 0xaf]), shown: '\\300\\257' },
    { name: 'surrogate', bytes: Buffer.from([0xed, 0xa0, 0x80]), shown: '\\355\\240\\200' },
    { name: 'a replacement character of its own', bytes: '\ufffd', shown: '\ufffd' },
    { name: 'a replacement character beside a bad byte', bytes: Buffer.from([0xef, 0xbf, 0xbd, 0xff]), shown: '\ufffd\\377' },
    { name: 'empty', bytes: '', shown: '' },
  ]) t.equal(printableName(Buffer.from(bytes as string)), shown, name)
})

t.test('messages keep their backslashes', async t => { t.equal(printable('a\\b\x07'), 'a\\b\\007') })

t.test('words can be given to a shell', async t => {
  for (const [word, quoted] of [['/srv/a', '/srv/a'], ['a b', `'a b'`], [`it's`, `'it'\\''s'`], ['', `''`], ['$x', `'$x'`]]) t.equal(shellQuote(word), quoted)
})
