import t from 'tap'
import { decodeConfig } from '../../src/format/config.js'
import { json } from '../fixtures/memory-repository.js'

const good = { version: 2, id: 'ab'.repeat(32), chunker_polynomial: '25b468838dcb75' }

t.test('decodeConfig reads formats 1 and 2 and ignores what it does not know', async t => {
  for (const version of [1, 2] as const) {
    t.strictSame(decodeConfig(json({ ...good, version, compression: 3, is_hot: true })), { version, id: good.id, chunkerPolynomial: good.chunker_polynomial })
  }
})

t.test('decodeConfig refuses', async t => {
  for (const [name, config, expected] of [
    ['a format of later', { version: 3, id: 5 }, { code: 'ERR_UNSUPPORTED', message: /format 3/ }],
    ['no version', { ...good, version: undefined }, { code: 'ERR_CORRUPT', reason: 'no version' }],
    ['version 0', { ...good, version: 0 }, { code: 'ERR_CORRUPT' }],
    ['a version that is text', { ...good, version: '2' }, { code: 'ERR_CORRUPT' }],
    ['half a version', { ...good, version: 1.5 }, { code: 'ERR_CORRUPT' }],
    ['an id that leads elsewhere', { ...good, id: '../../etc' }, { code: 'ERR_CORRUPT', reason: 'no repository id' }],
    ['a short id', { ...good, id: good.id.slice(2) }, { code: 'ERR_CORRUPT' }],
    ['no polynomial', { ...good, chunker_polynomial: '' }, { code: 'ERR_CORRUPT' }],
    ['a list', [good], { code: 'ERR_CORRUPT', reason: 'not a JSON object' }],
    ['null', null, { code: 'ERR_CORRUPT' }],
  ] as const) t.throws(() => decodeConfig(json(config)), expected, name)
  t.throws(() => decodeConfig(Buffer.from('{"version":2,')), { code: 'ERR_CORRUPT', reason: 'not JSON' }, 'cut short')
  t.throws(() => decodeConfig(Buffer.alloc(0)), { code: 'ERR_CORRUPT' }, 'empty')
})
