import t from 'tap'
import { decodeKeyFile, decodeMasterKeys } from '../../src/format/key-file.js'
import { json } from '../fixtures/memory-repository.js'

const good = {
  created: '2026-11-20T10:00:00Z', username: 'u', hostname: 'h', kdf: 'scrypt', N: 32768, r: 8, p: 5,
  salt: Buffer.alloc(64, 1).toString('base64'), data: Buffer.alloc(150, 2).toString('base64'),
}

t.test('decodeKeyFile', async t => {
  const key = decodeKeyFile('k', json({ ...good, later: [1] }))
  t.match(key, { created: good.created, username: 'u', hostname: 'h', N: 32768, r: 8, p: 5 })
  t.ok(key.salt.equals(Buffer.alloc(64, 1)))
  t.ok(key.data.equals(Buffer.alloc(150, 2)))
  t.match(decodeKeyFile('k', json({ ...good, created: undefined, username: 5, hostname: null })), { created: '', username: '', hostname: '' }, 'names are for people only')
})

t.test('decodeKeyFile refuses what nobody writes, before any memory is taken', async t => {
  for (const [name, fields] of Object.entries({
    'another derivation': { kdf: 'argon2' }, 'no derivation': { kdf: undefined },
    'N not a power of two': { N: 32767 }, 'N = 1': { N: 1 }, 'N = 0': { N: 0 }, 'N negative': { N: -32768 }, 'N not whole': { N: 0.5 }, 'N as text': { N: '32768' },
    'N beyond exact numbers': { N: 2 ** 60 }, 'more than 1 GiB': { N: 2 ** 20, r: 9 }, 'r huge': { r: 2 ** 40 }, 'r = 0': { r: 0 }, 'p huge': { p: 2 ** 30 },
    'no p': { p: undefined }, 'all huge': { N: 2 ** 52, r: 2 ** 52, p: 2 ** 52 },
    'no salt': { salt: '' }, 'salt not base64': { salt: '%%%%' }, 'salt of one letter': { salt: 'A' }, 'salt too long': { salt: Buffer.alloc(2000).toString('base64') },
    'no data': { data: null }, 'data too short': { data: Buffer.alloc(32).toString('base64') }, 'data too long': { data: Buffer.alloc(40_000).toString('base64') },
  })) t.throws(() => decodeKeyFile('k', json({ ...good, ...fields })), { code: 'ERR_CORRUPT', file: 'key k' }, name)
  t.doesNotThrow(() => decodeKeyFile('k', json({ ...good, N: 2 ** 20, r: 8, p: 1 })), '1 GiB is allowed')
})

t.test('decodeMasterKeys', async t => {
  const b64 = (length: number, byte: number) => Buffer.alloc(length, byte).toString('base64')
  const plain = { mac: { k: b64(16, 2), r: b64(16, 3) }, encrypt: b64(32, 1) }
  t.ok(decodeMasterKeys('k', json(plain)).equals(Buffer.concat([Buffer.alloc(32, 1), Buffer.alloc(16, 2), Buffer.alloc(16, 3)])), 'in the order of the addon')
  for (const [name, broken] of Object.entries({
    'no MAC key': { encrypt: plain.encrypt }, 'MAC null': { ...plain, mac: null }, 'k too short': { ...plain, mac: { ...plain.mac, k: b64(15, 2) } },
    'r too long': { ...plain, mac: { ...plain.mac, r: b64(17, 2) } }, 'no cipher key': { mac: plain.mac }, 'empty cipher key': { ...plain, encrypt: b64(32, 0) },
    'empty k': { ...plain, mac: { ...plain.mac, k: b64(16, 0) } },
  })) t.throws(() => decodeMasterKeys('k', json(broken)), { code: 'ERR_CORRUPT' }, name)
})

t.test('messages hold nothing of the file', async t => {
  try {
    decodeMasterKeys('k', Buffer.from('{"encrypt":"c2VjcmV0" oops'))
  } catch (error) {
    t.notMatch(`${(error as Error).stack} ${(error as Error).cause}`, /c2VjcmV0/)
  }
})
