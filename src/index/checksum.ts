/**
 * Check values of what is kept in SQLite. A damaged page must not send a read elsewhere or give a day another name; SQLite itself notices only
 * damage to its structure. Each step below is a bijection of the running value, so a change confined to one word is always seen, others but for 1 in 2^32.
 * Not a defence against a forger: who can write the index can also compute these.
 */
const SEED = 0x2545f491
const FACTOR = 0x9e3779b1 | 0

function mix(hash: number, word: number): number {
  hash = Math.imul(hash ^ word, FACTOR)
  return hash ^ (hash >>> 15)
}

function mixBytes(hash: number, bytes: Uint8Array, length: number): number {
  for (let i = 0; i + 3 < length; i += 4) hash = mix(hash, bytes[i] | bytes[i + 1] << 8 | bytes[i + 2] << 16 | bytes[i + 3] << 24)
  return hash
}

/** Of a blob's place; `id`: 32 bytes. A signed 32-bit integer, as all here. */
export function locationChecksum(id: Uint8Array, pack: number, offset: number, length: number, plainLength: number): number {
  let hash = mixBytes(SEED, id, 32)
  hash = mix(hash, pack | 0)
  hash = mix(hash, offset | 0)
  hash = mix(hash, (offset / 0x100000000) | 0)
  hash = mix(hash, length | 0)
  return mix(hash, plainLength | 0)
}

/** Does a row hold this place? Also its types are looked at: damage can turn the integer 0 into a NULL or a text, which count as 0 in the sum. */
export function isLocation(id: Uint8Array, pack: number, offset: number, length: number, plainLength: number, checksum: number): boolean {
  return pack >>> 0 === pack && length >>> 0 === length && plainLength >>> 0 === plainLength && Number.isSafeInteger(offset)
    && id.length === 32 && locationChecksum(id, pack, offset, length, plainLength) === checksum
}

/** Of a pack's number and name (32 bytes). */
export function packChecksum(pack: number, name: Uint8Array): number {
  return mixBytes(mix(SEED, pack | 0), name, 32)
}

export function isPack(pack: number, name: Uint8Array, checksum: number): boolean {
  return pack >>> 0 === pack && Buffer.isBuffer(name) && name.length === 32 && packChecksum(pack, name) === checksum
}

/**
 * Binds rows to the tree they are of: rows have a checksum of their own content (format/tree-rows.ts, in the first 16 bytes), but a damaged
 * index page could still lead to the sound rows of another tree.
 */
export function rowsChecksum(tree: Uint8Array, rows: Uint8Array): number {
  return mixBytes(mixBytes(SEED, tree, 32), rows, 16)
}

/** Of texts, in their order. @throws TypeError for what is not a text */
export function textChecksum(...texts: string[]): number {
  let hash = SEED
  for (const text of texts) {
    if (typeof text !== 'string') throw new TypeError('not a text')
    hash = mix(hash, text.length)
    for (let i = 0; i < text.length; i++) hash = mix(hash, text.charCodeAt(i))
  }
  return hash
}
