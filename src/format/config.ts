import { CorruptError, DaybookError } from '../errors.js'
import { isIdName } from '../util/hex.js'
import { parseObject } from './json.js'

export interface RepositoryConfig {
  readonly version: 1 | 2
  /** 64 hex digits; also the name of the folder of the local index, so it is checked */
  readonly id: string
  /** irreducible polynomial of the chunker, hex digits */
  readonly chunkerPolynomial: string
}

/**
 * Decode a decrypted config. It is JSON in every version, never compressed. Unknown fields are ignored.
 * @throws CorruptError if it is not a config, DaybookError ERR_UNSUPPORTED if it is of a version not known here
 */
export function decodeConfig(json: Uint8Array): RepositoryConfig {
  const config = parseObject('config', json)
  const { version, id, chunker_polynomial: polynomial } = config
  if (!Number.isSafeInteger(version) || (version as number) < 1) throw new CorruptError('config', 'no version')
  // The version first: a later format may keep the rest elsewhere.
  if (version !== 1 && version !== 2) {
    throw new DaybookError('ERR_UNSUPPORTED', `repository format ${version} is not supported`, 'formats 1 and 2 are; a newer daybook may know it')
  }
  if (typeof id !== 'string' || !isIdName(id)) throw new CorruptError('config', 'no repository id')
  if (typeof polynomial !== 'string' || !/^[0-9a-f]{1,16}$/i.test(polynomial)) throw new CorruptError('config', 'no chunker polynomial')
  return { version, id, chunkerPolynomial: polynomial }
}

/** The JSON of a config, as restic writes it. */
export function encodeConfig({ version, id, chunkerPolynomial }: RepositoryConfig): Buffer {
  return Buffer.from(JSON.stringify({ version, id, chunker_polynomial: chunkerPolynomial }))
}
