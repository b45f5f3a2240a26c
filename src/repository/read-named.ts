import { createHash } from 'node:crypto'
import type { Handle, ReadBackend, ReadOptions } from '../backend/backend.js'

/** Is this file what its name says? Names are SHA-256 over the stored bytes. */
export function isAsNamed({ name }: Handle, bytes: Uint8Array): boolean { return createHash('sha256').update(bytes).digest('hex') === name }

/** A fault on the way passes, and a body cut short may look whole; what is wrong so often in a row is stored so. */
const LEAST_TRIES = 3

/**
 * A whole file whose name is its hash, from the first source that has it right; from the last one several times.
 * @returns what the last source gave, where all are wrong
 */
export async function readNamed(backend: ReadBackend, handle: Handle, maxLength: number, options: ReadOptions = {}, again = 0): Promise<Buffer> {
  const sources = backend.sources ?? 1
  for (let times = again; ; times++) {
    const source = Math.min(times, sources - 1)
    const bytes = await backend.readAll(handle, maxLength, source === 0 ? options : { ...options, again: source })
    if (times + 1 >= Math.max(sources, LEAST_TRIES) || isAsNamed(handle, bytes)) return bytes
  }
}
