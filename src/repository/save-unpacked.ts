import { createHash } from 'node:crypto'
import type { Backend, SaveOptions } from '../backend/backend.js'
import { encryptFile } from '../crypto/encrypt.js'
import type { UnpackedType } from './unpacked.js'

/** What is needed to write into a repository. */
export interface WriteAccess {
  readonly backend: Backend
  /** 64 bytes, as the addon takes them */
  readonly keys: Uint8Array
  readonly version: 1 | 2
  /** level of zstd for what is not contents; not used in format 1 */
  readonly level: number
}

/** Store JSON as a file that is named by its hash. @returns its name, 64 hex digits */
export async function saveUnpacked({ backend, keys, version, level }: WriteAccess, type: UnpackedType, json: Uint8Array, options?: SaveOptions): Promise<string> {
  const bytes = await encryptFile(keys, json, version >= 2 ? level : null)
  const name = createHash('sha256').update(bytes).digest('hex')
  await backend.save({ type, name }, bytes, options)
  return name
}
