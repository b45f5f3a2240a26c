import { native } from '../native.js'

/** What --compression says. `auto` stores within 2 or 3 percent of what restic does, in less time; `max` takes many times as long for a tenth less. `off` leaves contents as they are; all else is compressed. */
export const COMPRESSIONS = ['auto', 'off', 'max'] as const
export type Compression = typeof COMPRESSIONS[number]

const LEVELS = { auto: 2, off: 2, max: 12 } as const

/** Level of zstd for contents; null: not compressed. */
export function dataLevel(compression: Compression): number | null { return compression === 'off' ? null : LEVELS[compression] }
/** Level of zstd for trees, index files and the like. */
export function metadataLevel(compression: Compression): number { return LEVELS[compression] }

/** The stored form of a file: IV (16) | ciphertext | MAC (16), read back before it is given out. @param level of zstd, null: not compressed (format 1, and config in every format) */
export function encryptFile(keys: Uint8Array, plain: Uint8Array, level: number | null): Promise<Buffer> {
  return native.encryptFile(keys, plain, level)
}
