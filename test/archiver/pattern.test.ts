import t from 'tap'
import { decodeName, PatternList } from '../../src/archiver/pattern.js'

t.test('patterns match what restic has them match', async t => {
  for (const [pattern, path, matches] of [
    ['*.go', '/foo/bar/test.go', true], ['*.go', '/foo/test.go/bar', true], ['*.c', '/foo/bar/test.go', false], ['foo', '/bar/foo/x', true], ['oo', '/bar/foo', false],
    ['/foo', '/foo/bar', true], ['/bar', '/foo/bar', false], ['bar/test.go', '/foo/bar/test.go', true], ['foo/test.go', '/foo/bar/test.go', false],
    ['/foo/*/test.*', '/foo/bar/test.go', true], ['/foo/**/test.*', '/foo/a/b/test.go', true], ['/foo/**/test.*', '/foo/test.go', true], ['**/bar', '/foo/bar', true],
    ['/**/bar', '/bar', true], ['foo/**', '/x/foo/y', true], ['foo/', '/x/foo', true], ['./foo', '/x/foo', true], ['a/../foo', '/x/foo', true], ['/', '/x', true],
    ['[a-c]x', '/dir/bx', true], ['[^a-c]x', '/dir/bx', false], ['[^a-c]x', '/dir/dx', true], ['t?st', '/t\u00e4st', true], ['t?st', '/t\u{1f600}st', true], ['\\*', '/a/*', true], ['\\*', '/a/b', false],
    ['a{b}', '/a{b}', true], ['(x|y)+', '/(x|y)+', true], ['a.b', '/axb', false], ['^$', '/^$', true],
  ] as const) t.equal(new PatternList([pattern]).matches(path), matches, `${pattern} and ${path}`)
})

t.test('later patterns take back what earlier ones exclude', async t => {
  const list = new PatternList(['*.log', '!keep.log', 'keep.log/really'])
  for (const [path, excluded] of [['/a.log', true], ['/keep.log', false], ['/keep.log/really', true], ['/a.txt', false]] as const) t.equal(list.matches(path), excluded, path)
})

t.test('upper and lower case', async t => {
  t.ok(new PatternList(['*.JPG'], true).matches('/a/b.Jpg'))
  t.notOk(new PatternList(['*.JPG']).matches('/a/b.Jpg'))
  t.ok(new PatternList(['', '']).empty, 'empty patterns are none')
})

t.test('a byte that is not UTF-8 is one character', async t => {
  const list = new PatternList(['a?b'])
  t.ok(list.matches(decodeName(Buffer.from('/x/a\xffb', 'latin1'))))
  t.notOk(list.matches(decodeName(Buffer.from('/x/a\xff\xfeb', 'latin1'))))
  t.equal(decodeName(Buffer.from('/\u65e5\u{1f600}')), '/\u65e5\u{1f600}')
  t.equal(decodeName(Buffer.from([0x2f, 0xe6, 0x97, 0x2f])), '/\udce6\udc97/', 'a sequence cut short')
})

t.test('what is no pattern is refused', async t => {
  for (const pattern of ['[a', 'a\\', '[]a]', '[-]', '[a-', 'x/[', '!x/[']) t.throws(() => new PatternList([pattern]), { code: 'ERR_USAGE' }, pattern)
})
