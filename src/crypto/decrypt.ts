import { CorruptError, DaybookError } from '../errors.js'
import { BLOB_OVERHEAD } from '../format/limits.js'
import { DecodeError, native } from '../native.js'

/** Why a stored form was refused, in words, by DecodeError. */
export const DECODE_REASONS: Readonly<Record<number, string>> = {
  [DecodeError.mac]: 'MAC does not fit',
  [DecodeError.zstd]: 'compressed data are damaged',
  [DecodeError.hash]: 'content does not match the id',
  [DecodeError.range]: 'too short or outside of the file',
  [DecodeError.tree]: 'not a tree',
  [DecodeError.memory]: 'larger than allowed',
}

/**
 * Plaintext of one encrypted piece: IV (16) | ciphertext | MAC (16), checked. On the thread pool.
 * @param file its name for messages  @param keys 64 bytes: AES-256 key, Poly1305 k, Poly1305 r
 * @throws CorruptError
 */
export async function decryptFile(file: string, keys: Uint8Array, bytes: Uint8Array, options: { zstd: boolean, maxLength: number }): Promise<Buffer> {
  if (bytes.length < BLOB_OVERHEAD) throw new CorruptError(file, `${bytes.length} bytes are too few for an encrypted file`)
  if (keys.length !== 64) throw new DaybookError('ERR_USAGE', `keys of ${keys.length} bytes`)
  const plain = await native.decryptFile(keys, bytes, options)
  if (typeof plain === 'number') throw new CorruptError(file, DECODE_REASONS[plain] ?? `decoding failed (${plain})`)
  return plain
}
