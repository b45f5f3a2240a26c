import { createHash } from 'node:crypto'
import type { Handle, ReadBackend, ReadOptions } from '../backend/backend.js'

/** Is this file what its name says? Names are SHA-256 over the stored bytes. */
export function isAsNamed({ name }: Handle, bytes: Uint8Array): boolean { return createHash('sha256').update(bytes).digest('hex') === name }

/**
 * A whole file whose name is its hash, from the first source that has it right.
 * @returns what the last source gave, where all are wrong
 */
export async function readNamed(backend: ReadBackend, handle: Handle, maxLength: number, options: ReadOptions = {}, again = 0): Promise<Buffer> {
  for (let times = again; ; times++) {
    const bytes = await backend.readAll(handle, maxLength, times === 0 ? options : { ...options, again: times })
    if (times + 1 >= (backend.sources ?? 1) || isAsNamed(handle, bytes)) return bytes
  }
}
