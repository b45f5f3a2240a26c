import { randomBytes } from 'node:crypto'
import { encodeMasterKeys, type KeyFile } from '../format/key-file.js'
import { encryptFile } from './encrypt.js'
import { deriveKeys } from './master-key.js'

/** 32 MiB: the most that a power of two gives below the 60 MiB restic allows. */
const N = 1 << 15
const R = 8
/** A derivation is to take about that long, as restic has it: what a guess costs who has the key file. */
const TARGET_MS = 500
const MAX_P = 16
/** restic opens no key file whose salt has another length. */
const SALT_LENGTH = 64

/** New master keys: 64 bytes as the addon takes them. Poly1305's r is masked, as older restics want it. */
export function newMasterKeys(): Buffer {
  const keys = randomBytes(64)
  for (const at of [3, 7, 11, 15]) keys[48 + at] &= 0x0f
  for (const at of [4, 8, 12]) keys[48 + at] &= 0xfc
  return keys
}

/** A key file that opens these master keys with this password. @param created RFC3339 */
export async function createKeyFile(keys: Buffer, password: Uint8Array, about: Pick<KeyFile, 'hostname' | 'username' | 'created'>): Promise<KeyFile> {
  const parameters = { N, r: R, p: await calibrate(), salt: randomBytes(SALT_LENGTH) }
  const derived = await deriveKeys(parameters, password)
  const plain = encodeMasterKeys(keys)
  try {
    return { ...about, ...parameters, data: await encryptFile(derived, plain, null) }
  } finally {
    derived.fill(0)
    plain.fill(0)
  }
}

/** How often the whole work can be done in the time there is, on this machine. */
async function calibrate(): Promise<number> {
  const started = performance.now()
  const derived = await deriveKeys({ N, r: R, p: 1, salt: randomBytes(SALT_LENGTH) }, randomBytes(16))
  derived.fill(0)
  return Math.max(1, Math.min(MAX_P, Math.floor(TARGET_MS / (performance.now() - started))))
}
