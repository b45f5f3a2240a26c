import { randomBytes } from 'node:crypto'
import t from 'tap'
import { decryptFile } from '../../src/crypto/decrypt.js'
import { deriveKeys, openMasterKey } from '../../src/crypto/master-key.js'
import { decodeKeyFile } from '../../src/format/key-file.js'
import { native } from '../../src/native.js'
import { MemoryRepository, PASSWORD } from '../fixtures/memory-repository.js'
import { referenceDecrypt, referenceEncrypt } from '../fixtures/reference-crypto.js'

t.test('deriveKeys is scrypt, also where it needs more memory than Node allows by itself', async t => {
  // RFC 7914, section 12
  const rfc = await deriveKeys({ N: 1024, r: 8, p: 16, salt: Buffer.from('NaCl') }, Buffer.from('password'))
  t.equal(rfc.toString('hex'), 'fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162'
    + '2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640')
  t.equal((await deriveKeys({ N: 65536, r: 8, p: 1, salt: Buffer.alloc(64) }, Buffer.from('x'))).length, 64, '64 MiB')
})

t.test('the addon agrees with the written description, whatever the bits of r', async t => {
  for (const length of [0, 1, 15, 16, 17, 1000]) {
    const keys = randomBytes(64)
    const plain = randomBytes(length)
    t.ok((await decryptFile('x', keys, referenceEncrypt(keys, randomBytes(16), plain), { zstd: false, maxLength: 2000 })).equals(plain), `decrypts ${length} bytes`)
    t.ok(referenceDecrypt(keys, native.encrypt(keys, plain))?.equals(plain), `encrypts ${length} bytes`)
  }
})

t.test('decryptFile refuses', async t => {
  const keys = randomBytes(64)
  const stored = native.encrypt(keys, Buffer.from('{"plain":"text"}'))
  const options = { zstd: true, maxLength: 100 }
  for (let at = 0; at < stored.length; at++) {
    const damaged = Buffer.from(stored)
    damaged[at] ^= 1 << at % 8
    await t.rejects(decryptFile('file', keys, damaged, options), { code: 'ERR_CORRUPT', file: 'file', reason: 'MAC does not fit' }, `a bit of byte ${at}`)
  }
  await t.rejects(decryptFile('file', keys, stored.subarray(0, -1), options), { code: 'ERR_CORRUPT' }, 'cut short')
  await t.rejects(decryptFile('file', keys, Buffer.concat([stored, Buffer.alloc(1)]), options), { code: 'ERR_CORRUPT' }, 'with a surplus byte')
  await t.rejects(decryptFile('file', keys, stored.subarray(0, 31), options), { code: 'ERR_CORRUPT', reason: /too few/ }, 'shorter than IV and MAC')
  await t.rejects(decryptFile('file', keys, stored, { zstd: true, maxLength: 5 }), { code: 'ERR_CORRUPT', reason: 'larger than allowed' }, 'longer than allowed')
  await t.rejects(decryptFile('file', keys, native.encrypt(keys, Buffer.from([2, 1, 2, 3])), options), { code: 'ERR_CORRUPT', reason: 'compressed data are damaged' }, 'no zstd frame behind the mark')
})

t.test('openMasterKey', async t => {
  const repository = new MemoryRepository()
  const key = decodeKeyFile('k', repository.makeKey())
  t.ok((await openMasterKey('k', key, Buffer.from(PASSWORD)))?.equals(repository.keys))
  t.equal(await openMasterKey('k', key, Buffer.from('another')), null)
  t.equal(await openMasterKey('k', key, Buffer.alloc(0)), null)
})
