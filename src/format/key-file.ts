import { CorruptError } from '../errors.js'
import { decodeBase64, parseObject } from './json.js'
import { BLOB_OVERHEAD } from './limits.js'

/** A key file: the master keys, encrypted with a key derived from one password. */
export interface KeyFile {
  readonly hostname: string
  readonly username: string
  /** as written; '' if it is missing */
  readonly created: string
  /** scrypt: cost (a power of two), block size, parallelisation */
  readonly N: number
  readonly r: number
  readonly p: number
  readonly salt: Buffer
  /** IV | encrypted JSON of the master keys | MAC */
  readonly data: Buffer
}

/** restic chooses parameters for half a second and at most 60 MiB; these bounds are where belief ends. */
const MAX_MEMORY = 1 << 30
/** bytes filled in all, p times over: about 20 s of one core */
const MAX_WORK = 8 * MAX_MEMORY
const MAX_SALT_LENGTH = 1024
const MAX_DATA_LENGTH = 1 << 15

/**
 * Decode a key file, plain JSON. Unknown fields are ignored.
 * @throws CorruptError also for parameters nobody chooses: a damaged or hostile file must not cost memory or minutes
 */
export function decodeKeyFile(name: string, json: Uint8Array): KeyFile {
  const file = `key ${name}`
  const key = parseObject(file, json)
  if (key.kdf !== 'scrypt') throw new CorruptError(file, 'key derivation is not scrypt')
  const N = positive(file, 'N', key.N)
  const r = positive(file, 'r', key.r)
  const p = positive(file, 'p', key.p)
  // As floating point on purpose: no product of three safe integers can wrap around to something small.
  if (N < 2 || !Number.isInteger(Math.log2(N)) || 128 * N * r > MAX_MEMORY || 128 * N * r * p > MAX_WORK) {
    throw new CorruptError(file, `impossible scrypt parameters N=${N} r=${r} p=${p}`)
  }
  const salt = decodeBase64(key.salt)
  if (!salt || salt.length === 0 || salt.length > MAX_SALT_LENGTH) throw new CorruptError(file, 'no salt')
  const data = decodeBase64(key.data)
  if (!data || data.length <= BLOB_OVERHEAD || data.length > MAX_DATA_LENGTH) throw new CorruptError(file, 'no encrypted data')
  return { hostname: text(key.hostname), username: text(key.username), created: text(key.created), N, r, p, salt, data }
}

/**
 * Decode the decrypted `data` of a key file: {"mac":{"k":…,"r":…},"encrypt":…}, base64.
 * r is kept as it is: old files hold it masked, new ones not, and Poly1305 masks it anyway, so it is never compared.
 * @returns 64 bytes: AES-256 key, Poly1305 k, Poly1305 r. They have passed through strings here, which the collector frees; no string leaves.
 * @throws CorruptError
 */
export function decodeMasterKeys(name: string, json: Uint8Array): Buffer {
  const file = `key ${name}`
  const { encrypt, mac } = parseObject(file, json)
  const parts = [decodeBase64(encrypt), decodeBase64((mac as { k?: unknown } | null)?.k), decodeBase64((mac as { r?: unknown } | null)?.r)]
  const lengths = [32, 16, 16]
  if (parts.some((part, i) => part?.length !== lengths[i])) throw new CorruptError(file, 'master keys are incomplete')
  // An all-zero key is no key: restic refuses it too, as the sign of a writer's fault. r may be all zero in part, so it has no say.
  if (parts.slice(0, 2).some(part => part!.every(byte => byte === 0))) throw new CorruptError(file, 'master keys are empty')
  const keys = Buffer.alloc(64)
  let at = 0
  for (const part of parts) {
    at += part!.copy(keys, at)
    part!.fill(0)
  }
  return keys
}

function positive(file: string, field: string, value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 1) throw new CorruptError(file, `scrypt parameter ${field} is missing`)
  return value as number
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** The JSON of a key file, plain. */
export function encodeKeyFile({ hostname, username, created, N, r, p, salt, data }: KeyFile): Buffer {
  return Buffer.from(JSON.stringify({ created, username, hostname, kdf: 'scrypt', N, r, p, salt: salt.toString('base64'), data: data.toString('base64') }))
}

/** What `data` of a key file holds before it is encrypted. @param keys 64 bytes: AES-256 key, Poly1305 k, Poly1305 r */
export function encodeMasterKeys(keys: Buffer): Buffer {
  const part = (from: number, to: number) => keys.subarray(from, to).toString('base64')
  return Buffer.from(JSON.stringify({ mac: { k: part(32, 48), r: part(48, 64) }, encrypt: part(0, 32) }))
}
