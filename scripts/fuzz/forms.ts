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

/** Against JSON.parse and plain objects: both refuse, or both find the same. */
async function judgeIndexFile(mutated: Buffer): Promise<'read' | 'refused'> {
  const file = await decodeIndexFile(hex(0), mutated).catch(error => typed(error, ['ERR_CORRUPT']))
  const plain = plainIndex(mutated)
  must((plain === null) === (file === 'refused'), plain === null ? 'JSON.parse refuses this' : 'JSON.parse reads this')
  if (file === 'refused') return file
  must(file.packs.length === 32 * file.packCount && file.toDelete.length === file.packCount && file.treeCount <= file.blobCount, 'counts fit')
  if (plain === 'ambiguous') return 'read'
  const packs = Array.from({ length: file.packCount }, (_, i) => file.packs.toString('hex', 32 * i, 32 * i + 32))
  const found = {
    packs: packs.map((name, i) => [name, file.toDelete[i]]),
    blobs: [...indexBlobs(file)].map(({ id, pack, type, offset, length, plainLength }) => [id.toString('hex'), packs[pack], type, offset, length, plainLength]),
    treeCount: file.treeCount, skipped: file.skipped,
  }
  must(JSON.stringify(found) === JSON.stringify(plain), 'the same as with JSON.parse')
  return 'read'
}

/** null: not JSON of that shape. 'ambiguous': JSON.parse does not tell what the decoder is told, as of a key that comes twice. */
function plainIndex(bytes: Buffer): object | 'ambiguous' | null {
  const text = bytes.toString('latin1')
  let value
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (value === null || typeof value !== 'object') return null
  const lists: { list: unknown, toDelete: number }[] = Array.isArray(value) ? [{ list: value, toDelete: 0 }]
    : Object.entries(value).flatMap(([key, list]) => list === null ? [] : key === 'packs' ? [{ list, toDelete: 0 }] : key === 'packs_to_delete' ? [{ list, toDelete: 1 }] : [])
  if (lists.some(({ list }) => !Array.isArray(list))) return null
  const isObject = (entry: unknown): entry is Record<string, unknown> => entry !== null && typeof entry === 'object' && !Array.isArray(entry)
  const isId = (id: unknown): id is string => typeof id === 'string' && /^[0-9a-f]{64}$/i.test(id)
  const isCount = (number: unknown, least: number, most: number): number is number => Number.isSafeInteger(number) && number as number >= least && number as number <= most
  const packs: unknown[] = []
  const blobs: unknown[][] = []
  let objects = Array.isArray(value) ? 0 : 1
  let skipped = 0
  for (const { list, toDelete } of lists) {
    for (const pack of list as unknown[]) {
      if (!isObject(pack)) {
        skipped++
        continue
      }
      objects++
      const entries: unknown[] = Array.isArray(pack.blobs) ? pack.blobs : []
      const good = isId(pack.id)
      if (good) packs.push([(pack.id as string).toLowerCase(), toDelete])
      else skipped++
      for (const blob of entries) {
        const { id, type, offset, length, uncompressed_length: plainLength = 0 } = isObject(blob) ? blob : {}
        if (good && isId(id) && (type === 'data' || type === 'tree') && isCount(offset, 0, Number.MAX_SAFE_INTEGER) && isCount(length, BLOB_OVERHEAD, MAX_BLOB_LENGTH)
          && isCount(plainLength, 0, MAX_BLOB_LENGTH) && Number.isSafeInteger(offset + length)) {
          blobs.push([id.toLowerCase(), (pack.id as string).toLowerCase(), type, offset, length, plainLength])
        } else skipped++
      }
    }
  }
  // Numbers written as 1e2, 1.0 or -0 are whole to JSON.parse and not to Go; keys twice, or written with escapes, are counted with them.
  const count = (pattern: RegExp) => (text.match(pattern) ?? []).length
  const ambiguous = count(/[0-9][.eE]/g) > 0 || /-0/.test(text) || /\\/.test(text) || /"(id|type|offset|length|uncompressed_length|blobs|packs|packs_to_delete)"\s*:[^{}]*"\1"\s*:/.test(text)
    || count(/"packs"/g) > 1 || count(/"packs_to_delete"/g) > 1 || count(/"blobs"/g) > objects || count(/__proto__/g) > 0
  if (ambiguous) return 'ambiguous'
  const trees = blobs.filter(([, , type]) => type === 'tree')
  const inOrder = (some: unknown[][]) => some.sort(([a], [b]) => a as string < (b as string) ? -1 : a === b ? 0 : 1)
  return { packs, blobs: [...inOrder(trees), ...inOrder(blobs.filter(([, , type]) => type === 'data'))], treeCount: trees.length, skipped }
}

function sha256(bytes: Uint8Array): string { return createHash('sha256').update(bytes).digest('hex') }
