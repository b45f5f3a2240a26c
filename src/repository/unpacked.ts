import type { FileType, ReadOptions } from '../backend/backend.js'
import { fileName } from '../backend/file-name.js'
import { DECODE_REASONS, decryptFile } from '../crypto/decrypt.js'
import { CorruptError } from '../errors.js'
import { indexFileOf, type IndexFile } from '../format/index-file.js'
import { MAX_FILE_LENGTH } from '../format/limits.js'
import { native } from '../native.js'
import { isAsNamed, readNamed } from './read-named.js'
import type { Repository } from './repository.js'

/** Files that are one encrypted piece of JSON. */
export type UnpackedType = Extract<FileType, 'snapshots' | 'index' | 'locks'>

/**
 * Plaintext of such a file. Read again if the bytes do not match the name, from each further source of them: a fault may also lie on the way here, or in a cache.
 * In format 2 JSON may be compressed, marked by a first byte 2; '[' and '{' are plain JSON in both.
 */
export async function loadUnpacked(repository: Repository, type: UnpackedType, name: string, options: ReadOptions = {}): Promise<Buffer> {
  const file = fileName({ type, name })
  const bytes = await readStored(repository, type, name, options)
  const plain = await decryptFile(file, repository.keys, bytes, { zstd: repository.version >= 2, maxLength: MAX_FILE_LENGTH[type] })
  if (plain[0] !== 0x7b && plain[0] !== 0x5b) throw new CorruptError(file, plain.length === 0 ? 'empty' : `unknown encoding ${plain[0]}`)
  return plain
}

/** An index file, decoded. Its JSON, which may be 30 MB, never enters the heap. @throws CorruptError */
export async function loadIndexFile(repository: Repository, name: string, options: ReadOptions = {}): Promise<IndexFile> {
  const bytes = await readStored(repository, 'index', name, options)
  const decoded = await native.decodeIndexFile(bytes, repository.keys, { zstd: repository.version >= 2, maxLength: MAX_FILE_LENGTH.index })
  if (typeof decoded === 'number' && decoded < 0) throw new CorruptError(`index file ${name}`, DECODE_REASONS[-decoded] ?? `decoding failed (${-decoded})`)
  return indexFileOf(name, decoded)
}

async function readStored(repository: Repository, type: UnpackedType, name: string, options: ReadOptions): Promise<Buffer> {
  const handle = { type, name } as const
  const file = fileName(handle)
  const maxLength = MAX_FILE_LENGTH[type]
  let bytes = await repository.prefetch?.take(handle) ?? await repository.backend.readAll(handle, maxLength, options)
  if (!isAsNamed(handle, bytes)) bytes = await readNamed(repository.backend, handle, maxLength, options, 1)
  if (!isAsNamed(handle, bytes)) throw new CorruptError(file, 'content does not match the name')
  return bytes
}
