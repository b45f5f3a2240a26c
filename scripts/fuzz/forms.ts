import { createHash } from 'node:crypto'
import { MemoryBackend } from '../../src/backend/memory.js'
import { DaybookError } from '../../src/errors.js'
import { decodeConfig } from '../../src/format/config.js'
import { decodeIndexFile, indexBlobs } from '../../src/format/index-file.js'
import { decodeKeyFile, decodeMasterKeys } from '../../src/format/key-file.js'
import { BLOB_OVERHEAD, MAX_BLOB_LENGTH } from '../../src/format/limits.js'
import { decodePackHeader } from '../../src/format/pack-header.js'
import { decodeSnapshot } from '../../src/format/snapshot.js'
import { native } from '../../src/native.js'
import { Repository } from '../../src/repository/repository.js'

/** A stored form with examples of it, and the judge of what its decoder makes of a mutation. */
export interface Form {
  readonly name: string
  readonly corpus: readonly Buffer[]
  /** @returns 'read' or 'refused'; throws if the decoder did neither properly */
  judge(mutated: Buffer, original: Buffer): Promise<'read' | 'refused'> | 'read' | 'refused'
}

const KEYS = Buffer.from(Array.from({ length: 64 }, (_, i) => i * 7 + 1 & 255))
const hex = (byte: number) => byte.toString(16).padStart(2, '0').repeat(32)
const json = (value: unknown) => Buffer.from(JSON.stringify(value))
const base64 = (length: number, byte: number) => Buffer.alloc(length, byte).toString('base64')

const CONFIGS = [json({ version: 2, id: hex(1), chunker_polynomial: '25b468838dcb75' }), json({ version: 1, id: hex(2), chunker_polynomial: '3dea92648f6e83', more: { a: [1] } })]
const SNAPSHOTS = [
  json({ time: '2026-11-20T10:00:00.123456789+01:00', parent: hex(3), tree: hex(4), paths: ['/home', '/etc'], hostname: 'web', username: 'root', tags: ['a', 'b'], summary: { files_new: 5 } }),
  json({ time: '1969-12-31T23:59:59Z', tree: hex(5), paths: null }),
]
const blobOf = (byte: number, fields: object = {}) => ({ id: hex(byte), type: 'data', offset: 0, length: 100, ...fields })
const INDEX_FILES = [
  json({ packs: [{ id: hex(1), blobs: [blobOf(2), blobOf(3, { offset: 100, uncompressed_length: 400, type: 'tree' })] }, { id: hex(4), blobs: [blobOf(5)] }] }),
  json({ supersedes: [hex(9)], packs: [{ id: hex(6), blobs: [] }], packs_to_delete: [{ id: hex(7), time: '2026-11-20T10:00:00Z', size: 500, blobs: [blobOf(8)] }] }),
]
const KEY_FILES = [
  json({ created: '2026-11-20T10:00:00Z', username: 'u', hostname: 'h', kdf: 'scrypt', N: 32768, r: 8, p: 5, salt: base64(64, 1), data: base64(150, 2) }),
  json({ hostname: '', kdf: 'scrypt', N: 2, r: 1, p: 1, salt: base64(64, 3), data: base64(200, 4), label: null }),
]
const MASTER_KEYS = [json({ mac: { k: base64(16, 1), r: base64(16, 2) }, encrypt: base64(32, 3) })]
const entry = (type: number, length: number, ...rest: number[]) => {
  const bytes = Buffer.alloc(5 + 4 * rest.length + 32, type + 1)
  bytes[0] = type
  for (const [i, value] of [length, ...rest].entries()) bytes.writeUInt32LE(value, 1 + 4 * i)
  return bytes
}
const HEADERS = [Buffer.concat([entry(0, 100), entry(3, 60, 500), entry(1, 32)]), Buffer.concat(Array.from({ length: 40 }, (_, i) => entry(2, 40 + i, 1000)))]

/** Refused with one of these codes is well; anything else thrown is a finding. */
function refusal(codes: readonly string[], decode: () => void): 'read' | 'refused' {
  try {
    decode()
    return 'read'
  } catch (error) {
    return typed(error, codes)
  }
}

function typed(error: unknown, codes: readonly string[]): 'refused' {
  if (error instanceof DaybookError && codes.includes(error.code)) return 'refused'
  throw error
}

function must(condition: boolean, claim: string): void {
  if (!condition) throw new Error(`not so: ${claim}`)
}

/** A decoder of plaintext. */
const plainForm = (name: string, corpus: readonly Buffer[], decode: (bytes: Buffer) => void, codes: readonly string[] = ['ERR_CORRUPT']): Form =>
  ({ name, corpus, judge: mutated => refusal(codes, () => decode(mutated)) })

/** An encrypted file: whatever is changed, it is refused, under its old name for the hash and under a new one for the MAC. */
function storedForm(type: 'snapshots' | 'index', plain: readonly Buffer[]): Form {
  return {
    name: `${type}, stored`,
    corpus: plain.map(bytes => native.encrypt(KEYS, bytes)),
    async judge(mutated, original) {
      if (mutated.equals(original)) return 'read'
      const backend = new MemoryBackend()
      const repository = new Repository(backend, { version: 2, id: hex(1), chunkerPolynomial: '0' }, KEYS, hex(0))
      for (const name of [sha256(original), sha256(mutated)]) {
        backend.put({ type, name }, mutated)
        await repository.loadUnpacked(type, name).then(() => { throw new Error(`changed bytes were read as ${type} ${name}`) }, error => typed(error, ['ERR_CORRUPT']))
      }
      return 'refused'
    },
  }
}

/** A whole pack: its header is read as it was, or refused. */
const packForm: Form = {
  name: 'pack, stored',
  corpus: HEADERS.map(plain => {
    const header = native.encrypt(KEYS, plain)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(header.length)
    const blobs = decodePackHeader('', plain).reduce((sum, { length }) => sum + length, 0)
    return Buffer.concat([Buffer.alloc(blobs, 0xbb), header, length])
  }),
  async judge(mutated, original) {
    const backend = new MemoryBackend()
    const repository = new Repository(backend, { version: 2, id: hex(1), chunkerPolynomial: '0' }, KEYS, hex(0))
    const name = sha256(original)
    const load = async (bytes: Buffer) => {
      backend.put({ type: 'data', name }, bytes)
      return JSON.stringify(await repository.loadPackHeader(name, bytes.length))
    }
    const right = await load(original)
    try {
      must(await load(mutated) === right, 'entries as they were')
      return 'read'
    } catch (error) {
      return typed(error, ['ERR_CORRUPT'])
    }
  },
}

export const FORMS: readonly Form[] = [
  plainForm('key file', KEY_FILES, bytes => {
    const { N, r, p, salt, data } = decodeKeyFile(hex(0), bytes)
    must(128 * N * r <= 2 ** 30 && 128 * N * r * p <= 2 ** 33 && Number.isInteger(Math.log2(N)), 'derivation is affordable')
    must(salt.length > 0 && data.length > BLOB_OVERHEAD, 'salt and data are there')
  }),
  plainForm('master keys', MASTER_KEYS, bytes => must(decodeMasterKeys(hex(0), bytes).length === 64, '64 bytes')),
  plainForm('config', CONFIGS, bytes => {
    const { version, id } = decodeConfig(bytes)
    must((version === 1 || version === 2) && /^[0-9a-f]{64}$/.test(id), 'version and id')
  }, ['ERR_CORRUPT', 'ERR_UNSUPPORTED']),
  plainForm('snapshot', SNAPSHOTS, bytes => {
    const { tree, timeMs, timeNs, tags, paths } = decodeSnapshot(hex(0), bytes)
    must(tree.length === 32 && Number.isSafeInteger(timeMs) && timeNs >= 0 && timeNs < 1e6, 'tree and time')
    must([...tags, ...paths].every(text => typeof text === 'string'), 'tags and paths are text')
  }),
  { name: 'index file', corpus: INDEX_FILES, judge: judgeIndexFile },
  plainForm('pack header', HEADERS, bytes => {
    let offset = 0
    for (const entry of decodePackHeader(hex(0), bytes, 4000)) {
      must(entry.id.length === 32 && entry.offset === offset && entry.length >= BLOB_OVERHEAD && entry.plainLength <= MAX_BLOB_LENGTH, 'entries follow each other')
      offset += entry.length
    }
    must(offset <= 4000, 'and end in the pack')
  }),
  storedForm('snapshots', SNAPSHOTS),
  storedForm('index', INDEX_FILES),
  packForm,
]

/** Against JSON.parse and plain objects: both refuse, or both find the same blobs. */
function judgeIndexFile(mutated: Buffer): 'read' | 'refused' {
  let file: ReturnType<typeof decodeIndexFile> | null = null
  const outcome = refusal(['ERR_CORRUPT'], () => { file = decodeIndexFile(hex(0), mutated) })
  const plain = plainIndex(mutated)
  must((plain === null) === (file === null), plain === null ? 'JSON.parse refuses this' : 'JSON.parse reads this')
  if (file && plain && plain !== 'duplicates') {
    const { packs } = file as ReturnType<typeof decodeIndexFile>
    const found = [...indexBlobs(file)].map(({ id, pack, type, offset, length, plainLength }) => [packs.toString('hex', pack * 32, pack * 32 + 32), id.toString('hex'), type, offset, length, plainLength])
    must(JSON.stringify(found) === JSON.stringify(plain), 'the same blobs as with JSON.parse')
  }
  return outcome
}

/** null: not JSON of that shape. 'duplicates': a key twice in an object, of which JSON.parse keeps the last and the decoder all. */
function plainIndex(bytes: Buffer): unknown[] | 'duplicates' | null {
  let value
  try {
    value = JSON.parse(bytes.toString('latin1'))
  } catch {
    return null
  }
  if (value === null || typeof value !== 'object') return null
  const lists: unknown[] = Array.isArray(value) ? [value] : ['packs', 'packs_to_delete'].map(key => value[key]).filter(list => list !== undefined && list !== null)
  if (lists.some(list => !Array.isArray(list))) return null
  const keys = bytes.toString('latin1')
  const count = (pattern: RegExp) => (keys.match(pattern) ?? []).length
  const blobs: unknown[] = []
  let objects = Array.isArray(value) ? 0 : 1
  const isCount = (number: unknown, least: number, most: number) => typeof number === 'number' && Number.isSafeInteger(number) && number >= least && number <= most
  for (const pack of lists.flat() as Record<string, unknown>[]) {
    if (pack === null || typeof pack !== 'object' || Array.isArray(pack)) continue
    objects++
    const name = typeof pack.id === 'string' && /^[0-9a-f]{64}$/i.test(pack.id) ? pack.id.toLowerCase() : null
    for (const blob of Array.isArray(pack.blobs) ? pack.blobs : []) {
      if (blob === null || typeof blob !== 'object' || Array.isArray(blob)) continue
      const { id, type, offset, length, uncompressed_length: plainLength = 0 } = blob
      const good = typeof id === 'string' && /^[0-9a-f]{64}$/i.test(id) && (type === 'data' || type === 'tree') && isCount(offset, 0, Number.MAX_SAFE_INTEGER)
        && isCount(length, BLOB_OVERHEAD, MAX_BLOB_LENGTH) && isCount(plainLength, 0, MAX_BLOB_LENGTH) && Number.isSafeInteger(offset + length)
      if (name && good) blobs.push([name, id.toLowerCase(), type, offset, length, plainLength])
    }
  }
  // Numbers written as 1e2, 1.0 or -0 are whole to JSON.parse and not to Go; keys twice, or written with escapes, are counted with them.
  const odd = count(/[0-9][.eE]/g) > 0 || /-0/.test(keys) || /\\/.test(keys) || /"(id|type|offset|length|uncompressed_length|blobs|packs|packs_to_delete)"\s*:[^{}]*"\1"\s*:/.test(keys)
    || count(/"packs"/g) > 1 || count(/"packs_to_delete"/g) > 1 || count(/"blobs"/g) > objects || count(/__proto__/g) > 0
  return odd ? 'duplicates' : blobs
}

function sha256(bytes: Uint8Array): string { return createHash('sha256').update(bytes).digest('hex') }
