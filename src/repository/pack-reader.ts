import type { ReadBackend, ReadOptions } from '../backend/backend.js'
import { DECODE_REASONS } from '../crypto/decrypt.js'
import { AccessError, CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { BLOB_OVERHEAD, MAX_BLOB_LENGTH } from '../format/limits.js'
import type { BlobLocation, LocalIndex } from '../index/index.js'
import { abortedError } from '../util/abort.js'

/** Lengths come from index files, which may be damaged or hostile: they must not make us allocate without bound. */
export function isSound(location: BlobLocation): boolean {
  const { offset, length, plainLength } = location
  return Number.isSafeInteger(offset + length) && offset >= 0 && length >= BLOB_OVERHEAD && length <= MAX_BLOB_LENGTH &&
    plainLength >= 0 && plainLength <= MAX_BLOB_LENGTH
}

/**
 * Bytes of a pack. Options: see ReadOptions.
 * @throws NotFoundError (also when the index no longer knows the pack), ERR_UNREACHABLE, ERR_ABORTED; CorruptError for whatever concerns these bytes
 *   alone: the file ends early, a bad sector. Then a part of the range may still be readable.
 */
export async function readPack(backend: ReadBackend, name: string, offset: number, length: number, options: Pick<ReadOptions, 'into' | 'again' | 'treesUpTo'> & { signal: AbortSignal }): Promise<Buffer> {
  const { signal } = options
  if (name === '') throw new NotFoundError('a pack that left the index')
  let bytes
  try {
    bytes = await backend.read({ type: 'data', name }, offset, length, options)
  } catch (error) {
    if (signal.aborted) throw abortedError(signal)
    throw isPassing(error as Error) ? error : new CorruptError(`pack ${name}`, `${length} bytes at ${offset} cannot be read`, { cause: error })
  }
  if (bytes.length !== length) throw new CorruptError(`pack ${name}`, `${length} bytes at ${offset} wanted, got ${bytes.length}`)
  return bytes
}

// EIO is what a disk says of a bad sector; the rest of the disk may be well.
function isPassing(error: Error): boolean {
  return error instanceof DaybookError && (error.cause as NodeJS.ErrnoException | undefined)?.code !== 'EIO'
}

/** Is it this copy of a blob that cannot be had, so that another may serve? Else it is the repository that cannot be reached. */
export function concernsCopy(error: Error): boolean {
  return error instanceof CorruptError || error instanceof NotFoundError || error instanceof AccessError
}

/** Entries for native.decodeBlobs and decodeTrees, of blobs in a range which begins at `start`. */
export function decodeEntries(locations: readonly BlobLocation[], start: number): Uint32Array {
  const entries = new Uint32Array(locations.length * 3)
  for (let i = 0; i < locations.length; i++) {
    const location = locations[i]
    entries[i * 3] = location.offset - start
    entries[i * 3 + 1] = location.length
    entries[i * 3 + 2] = location.plainLength
  }
  return entries
}

/** @param title 'blob <id>' or 'tree <id>' */
export function decodeFailure(title: string, location: BlobLocation, index: Pick<LocalIndex, 'packName'>, code: number): CorruptError {
  const reason = DECODE_REASONS[code] ?? `decoding failed (${code})`
  const pack = `pack ${index.packName(location.pack)}`
  return new CorruptError(title, `${reason} (at ${location.offset} in ${pack})`, { cause: new CorruptError(pack, reason) })
}
