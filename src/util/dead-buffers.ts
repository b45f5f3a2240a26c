import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/**
 * Bytes of Buffers lie outside of the heap. V8 lets 64 MiB of dead ones pile up in each thread before it collects for their sake, which
 * is more than all else here; so who makes many of them counts them here, and the heap, which is small, is collected earlier:
 * some milliseconds for every so many MiB.
 */
export class DeadBuffers {
  readonly #every: number
  readonly #collect: () => void
  #bytes = 0
  #pending = false

  /** @param every bytes made between two collections */
  constructor(every: number, collect = collector()) {
    this.#every = every
    this.#collect = collect
  }

  /** Buffers of that many bytes were made. The collection comes at the end of the turn. */
  made(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes < this.#every || this.#pending) return
    this.#pending = true
    setImmediate(() => {
      this.#pending = false
      this.#bytes = 0
      this.#collect()
    }).unref()
  }
}

let gc: (() => void) | undefined

function collector(): () => void {
  if (gc === undefined) {
    setFlagsFromString('--expose-gc')
    gc = runInNewContext('gc') as () => void
    setFlagsFromString('--no-expose-gc')
  }
  return gc
}
