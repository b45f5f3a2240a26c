/** Lengths are rounded up to it, so that a piece fits many reads. */
const STEP = 1 << 20

/**
 * Memory for ranges of packs, used again and again. A fresh buffer per read costs more than reading into it (the kernel zeroes its pages), and
 * stays until the collector comes by, which sees only a small object: tens of MB of garbage.
 */
export class ReadMemory {
  readonly #maxIdle: number
  /** by length, the shortest first */
  readonly #idle: Buffer[] = []
  #idleBytes = 0

  /** @param maxIdle bytes kept while nobody uses them */
  constructor(maxIdle: number) { this.#maxIdle = maxIdle }

  /** A piece of at least that many bytes; undefined if it would be too large to be kept. */
  take(length: number): Buffer | undefined {
    if (length > this.#maxIdle) return undefined
    const at = this.#idle.findIndex(piece => piece.length >= length)
    if (at < 0) return Buffer.allocUnsafeSlow(Math.ceil(length / STEP) * STEP)
    const [piece] = this.#idle.splice(at, 1)
    this.#idleBytes -= piece.length
    return piece
  }

  /** Nobody reads or writes it any more. */
  give(piece: Buffer | undefined): void {
    if (piece === undefined) return
    const at = this.#idle.findIndex(other => other.length >= piece.length)
    this.#idle.splice(at < 0 ? this.#idle.length : at, 0, piece)
    this.#idleBytes += piece.length
    // The short ones go: a long one serves every read.
    while (this.#idleBytes > this.#maxIdle) this.#idleBytes -= this.#idle.shift()!.length
  }

  clear(): void {
    this.#idle.length = 0
    this.#idleBytes = 0
  }
}
