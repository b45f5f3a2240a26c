import t from 'tap'
import { parseOwner, parseSeconds, parseSubtree } from '../../src/cli/values.js'

t.test('times', async t => {
  for (const [text, seconds] of [['0', 0], ['60', 60], ['90s', 90], ['5m', 300], ['1h', 3600], ['1.5m', 90]] as const) t.equal(parseSeconds('--poll', text), seconds, text)
  for (const text of ['', '-1', 'x', '1d', '1e9', '60 ', '9999999999', 'Infinity']) t.throws(() => parseSeconds('--poll', text), { code: 'ERR_USAGE' }, JSON.stringify(text))
})

t.test('subtrees', async t => {
  for (const [text, path] of [['/home/anna', '/home/anna'], ['home/anna/', '/home/anna'], ['//a/./b//', '/a/b'], ['/', null], ['', null], ['/a/..b', '/a/..b']] as const) {
    t.equal(parseSubtree(text), path, JSON.stringify(text))
  }
  for (const text of ['..', '/a/../b', 'a/..']) t.throws(() => parseSubtree(text), { code: 'ERR_USAGE' }, text)
})

t.test('owners', async t => {
  for (const [text, uid, gid] of [['1000:1001', 1000, 1001], ['root', 0, 0], ['root:', 0, 0], ['root:root', 0, 0], ['0:5', 0, 5], ['4294967294:0', 4294967294, 0], ['0', 0, 0]] as const) {
    t.strictSame(parseOwner(text), { uid, gid }, text)
  }
  for (const text of ['', ':', ':5', '1:2:3', 'no-such-user', 'root:no-such-group', '4294967295:0', '-1:0', '--help', '4000000000']) {
    t.throws(() => parseOwner(text), { code: 'ERR_USAGE' }, JSON.stringify(text))
  }
})
