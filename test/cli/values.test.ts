import t from 'tap'
import { diskCacheSettings } from '../../src/cli/cache-options.js'
import { parseOwner, parseSeconds, parseSize, parseSubtree } from '../../src/cli/values.js'

t.test('times', async t => {
  for (const [text, seconds] of [['0', 0], ['60', 60], ['90s', 90], ['5m', 300], ['1h', 3600], ['1.5m', 90]] as const) t.equal(parseSeconds('--poll', text), seconds, text)
  for (const text of ['', '-1', 'x', '1d', '1e9', '60 ', '9999999999', 'Infinity']) t.throws(() => parseSeconds('--poll', text), { code: 'ERR_USAGE' }, JSON.stringify(text))
})

t.test('sizes', async t => {
  for (const [text, bytes] of [['0', 0], ['4096', 4096], ['500M', 500 << 20], ['20G', 20 * 2 ** 30], ['1.5T', 1.5 * 2 ** 40], ['2 GiB', 2 ** 31], ['10kb', 10240], ['7B', 7]] as const) {
    t.equal(parseSize('--cache-size', text), bytes, text)
  }
  for (const text of ['', '-1', 'x', '5%', '1e9', 'G', '9999999T', 'Infinity']) t.throws(() => parseSize('--cache-size', text), { code: 'ERR_USAGE' }, JSON.stringify(text))
  t.strictSame(diskCacheSettings({ verbose: 0, cache: true }), { maxBytes: null })
  t.strictSame(diskCacheSettings({ verbose: 0, cacheSize: '0' }), { maxBytes: 0 })
  t.equal(diskCacheSettings({ verbose: 0, cache: false, cacheSize: '1G' }), null)
  t.throws(() => diskCacheSettings({ verbose: 0, cache: false, cacheSize: 'much' }), { code: 'ERR_USAGE' })
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
