import type { BlobLocation } from '../index/index.js'

/**
 * Places of blobs remembered, by id key. Two generations: when the young one is full it becomes the old one, and what is not used
 * until that happens again is forgotten. A tenth of the cost of an exact order, which nobody needs here.
 */
export class LocationCache {
  readonly #half: number
  #young = new Map<string, readonly BlobLocation[]>()
  #old = new Map<string, readonly BlobLocation[]>()

  /** @param max most blobs remembered */
  constructor(max: number) { this.#half = Math.ceil(max / 2) }

  get(key: string): readonly BlobLocation[] | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set(key: string, locations: readonly BlobLocation[]): void {
    if (this.#young.size >= this.#half) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, locations)
  }

  clear(): void {
    this.#young.clear()
    this.#old.clear()
  }
}
