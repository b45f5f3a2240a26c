import { hostname, userInfo } from 'node:os'
import t from 'tap'
import { AccessError, CorruptError } from '../../src/errors.js'
import { searchKey } from '../../src/repository/keys.js'
import type { KeySearchOptions, StoredKeyFile } from '../../src/repository/keys.js'
import { json, MemoryRepository, PASSWORD, sha256 } from '../fixtures/memory-repository.js'

const repository = new MemoryRepository()
const stored = (bytes: Buffer): StoredKeyFile => ({ name: sha256(bytes).toString('hex'), bytes })
const key = (password = PASSWORD, fields: object = {}) => stored(repository.makeKey(password, fields))
const broken = (file: StoredKeyFile, change: (text: string) => string): StoredKeyFile => ({ name: file.name, bytes: Buffer.from(change(file.bytes.toString())) })
const flipData = (text: string) => text.replace(/("data":".)(.)/, (_, head: string, c: string) => head + (c === 'A' ? 'B' : 'A'))

async function search(files: StoredKeyFile[], options: KeySearchOptions = {}, password = PASSWORD) {
  const reports: string[] = []
  const opened = await searchKey(files, Buffer.from(password), { ...options, onDamaged: ({ file, reason }) => reports.push(`${file}: ${reason}`) })
  return { ...opened, reports }
}

t.test('the key that fits is found among others', async t => {
  const mine = key()
  for (const files of [[mine], [mine, key('a')], [key('a'), mine], [key('a'), key('b'), key('c'), mine, key('d')]]) {
    const { keys, keyName, reports } = await search(files)
    t.ok(keys.equals(repository.keys), `one of ${files.length}`)
    t.equal(keyName, mine.name)
    t.strictSame(reports, [])
  }
})

t.test('wrong password is said only if a sound key file refuses it', async t => {
  const other = key('other')
  const damagedMine = broken(key(), flipData)
  await t.rejects(search([other, key('another')]), { code: 'ERR_WRONG_PASSWORD', hint: undefined })
  await t.rejects(search([other, damagedMine]), { code: 'ERR_WRONG_PASSWORD', hint: /1 key file\(s\) are damaged/ }, 'the damaged one may have been the right one')
  await t.rejects(search([damagedMine]), { code: 'ERR_CORRUPT', file: `key ${damagedMine.name}` }, 'not: wrong password')
  await t.rejects(search([damagedMine, broken(other, text => text.slice(1))]), { code: 'ERR_CORRUPT', file: 'keys', reason: /none of 2 key files is sound/ })
  await t.rejects(search([]), { code: 'ERR_CORRUPT', reason: /no key files/ })
  await t.rejects(search([{ name: other.name, bytes: new AccessError('keys/x', 'hint') }]), { name: 'AccessError' }, 'none can be read')
  await t.rejects(search([other, { name: key().name, bytes: new AccessError('keys/x', 'hint') }]), { code: 'ERR_WRONG_PASSWORD', hint: /1 key file\(s\) could not be read/ })
})

t.test('damaged key files are reported, and do not keep a good one from opening', async t => {
  const mine = key()
  for (const [name, bad, reason] of [
    ['cut short', broken(key(), text => text.slice(0, -1)), 'not JSON'],
    ['empty', broken(key(), () => ''), 'not JSON'],
    ['absurd memory', stored(json({ ...JSON.parse(repository.makeKey().toString()), N: 2 ** 40 })), /impossible scrypt parameters/],
    ['unreadable content', { name: key().name, bytes: new CorruptError('key x', 'truncated') }, 'truncated'],
    ['data damaged', broken(key(), flipData), 'content does not match the name'],
  ] as const) {
    const { keyName, reports } = await search([bad, mine])
    t.equal(keyName, mine.name, name)
    t.match(reports, { length: 1 }, name)
    t.match(reports[0], reason, name)
  }
})

t.test('a key file damaged where it does not matter opens, and is reported', async t => {
  const damaged = broken(key(), text => text.replace('"somewhere"', '"some-here"'))
  const { keyName, reports } = await search([damaged])
  t.equal(keyName, damaged.name)
  t.strictSame(reports, [`key ${damaged.name}: content does not match the name`])
})

t.test('likely keys are tried first: with one try, only they open', async t => {
  const mine = key()
  const others = [1, 2, 3].map(i => key(`other ${i}`))
  const here = key(PASSWORD, { hostname: hostname(), username: userInfo().username })
  const new_ = key(PASSWORD, { created: '2027-01-01T00:00:00Z' })
  t.equal((await search([...others, mine], { maxKeys: 1, keyHint: mine.name.slice(0, 12) })).keyName, mine.name, 'the one hinted at')
  t.equal((await search([...others, here], { maxKeys: 1 })).keyName, here.name, 'the one made here')
  t.equal((await search([...others, new_], { maxKeys: 1 })).keyName, new_.name, 'the newest')
  await t.rejects(search(others, { maxKeys: 2 }), { code: 'ERR_WRONG_PASSWORD', hint: /2 of 3 keys were tried.*--key-hint/ })
  t.equal((await search([mine, ...others], { keyHint: others[0].name })).keyName, mine.name, 'a wrong hint does no harm')
})

t.test('a key that opens and holds nonsense is damaged', async t => {
  const empty = new MemoryRepository()
  empty.keys.fill(0)
  const file = stored(empty.makeKey())
  await t.rejects(search([file, key('other')]), { code: 'ERR_CORRUPT', reason: 'master keys are empty' }, 'the password was right')
  t.equal((await search([file, key()])).reports.length <= 1, true, 'and another key opens all the same')
})

t.test('gives up when told to', async t => {
  await t.rejects(search([key('other'), key()], { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
})
