import { scrypt } from 'node:crypto'
import { CorruptError } from '../errors.js'
import { decodeMasterKeys } from '../format/key-file.js'
import type { KeyFile } from '../format/key-file.js'
import { DecodeError, native } from '../native.js'
import { DECODE_REASONS } from './decrypt.js'

const DERIVED_LENGTH = 64

/**
 * The master keys behind a password: 64 bytes as the addon takes them. About half a second on the thread pool.
 * @returns null if the password does not fit this key file (or the file is damaged, which cannot be told apart here)
 * @throws CorruptError if it fits and what it opens makes no sense
 */
export async function openMasterKey(name: string, key: KeyFile, password: Uint8Array): Promise<Buffer | null> {
  const derived = await deriveKeys(key, password)
  try {
    const plain = await native.decryptFile(derived, key.data, { zstd: false, maxLength: key.data.length })
    if (plain === DecodeError.mac) return null
    if (typeof plain === 'number') throw new CorruptError(`key ${name}`, DECODE_REASONS[plain] ?? `decoding failed (${plain})`)
    try {
      return decodeMasterKeys(name, plain)
    } finally {
      plain.fill(0)
    }
  } finally {
    derived.fill(0)
  }
}

/** scrypt over the password: AES-256 key (32) | Poly1305 k (16) | r (16), the order in which the addon takes keys. */
export function deriveKeys({ N, r, p, salt }: Pick<KeyFile, 'N' | 'r' | 'p' | 'salt'>, password: Uint8Array): Promise<Buffer> {
  // What OpenSSL allocates: V (128 N r), B (128 r p), and T and X (256 r + 64); Node's default limit is 32 MiB.
  const maxmem = 128 * N * r + 128 * r * p + 256 * r + 4096
  return new Promise((resolve, reject) => {
    scrypt(password, salt, DERIVED_LENGTH, { N, r, p, maxmem }, (error, derived) => error ? reject(error) : resolve(derived))
  })
}
