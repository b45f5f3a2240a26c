import type { LocalIndex } from '../index/index.js'
import { keyId } from '../util/id-key.js'
import type { Logger } from '../util/log.js'

/** Bytes of rows given to the index's worker at once: a transaction. */
const BATCH_BYTES = 2 << 20

/** Rows on their way into the index: still to be had here, and bounded, as the worker may be slower than the decoder. */
export class RowsStore {
  readonly #index: Pick<LocalIndex, 'putRows'>
  readonly #log: Logger
  readonly #maxBytes: number
  readonly #rows = new Map<string, Buffer>()
  #bytes = 0
  #storing = false
  #broken = false
  #waiting: { bytes: number, go: () => void }[] = []

  /** @param maxBytes above which room() waits */
  constructor(index: Pick<LocalIndex, 'putRows'>, log: Logger, maxBytes: number) {
    this.#index = index
    this.#log = log
    this.#maxBytes = maxBytes
  }

  get bytes(): number { return this.#bytes }
  /** The index takes no rows: they are served from memory, and decoding ahead is of no use. */
  get broken(): boolean { return this.#broken }

  get(key: string): Buffer | undefined { return this.#rows.get(key) }

  put(key: string, rows: Buffer): void {
    if (this.#rows.has(key)) return
    this.#rows.set(key, rows)
    this.#bytes += rows.length
    if (!this.#storing) void this.#store()
  }

  /** Resolves when more may be put. */
  room(): Promise<void> { return this.#below(this.#maxBytes) }
  /** Resolves when all is stored, or given up. */
  drained(): Promise<void> { return this.#below(0) }

  async #below(bytes: number): Promise<void> {
    if (this.#bytes > bytes) await new Promise<void>(go => this.#waiting.push({ bytes, go }))
  }

  /** Never rejects. */
  async #store(): Promise<void> {
    this.#storing = true
    // What is put in the same turn goes together.
    await Promise.resolve()
    while (this.#rows.size > 0) {
      const batch = this.#takeBatch()
      try {
        await this.#index.putRows(batch.map(([key, rows]) => ({ id: keyId(key), rows })))
        this.#broken = false
      } catch (error) {
        if (!this.#broken) this.#log.warn('the index does not take trees: they are kept in memory only', { error })
        this.#broken = true
      }
      for (const [key, rows] of batch) {
        this.#rows.delete(key)
        this.#bytes -= rows.length
      }
      this.#wake()
    }
    this.#storing = false
  }

  #takeBatch(): [string, Buffer][] {
    const batch: [string, Buffer][] = []
    let bytes = 0
    for (const entry of this.#rows) {
      if (batch.length > 0 && bytes + entry[1].length > BATCH_BYTES) break
      batch.push(entry)
      bytes += entry[1].length
    }
    return batch
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = waiting.filter(({ bytes }) => this.#bytes > bytes)
    for (const { bytes, go } of waiting) if (this.#bytes <= bytes) go()
  }
}
