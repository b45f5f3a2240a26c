import type { PackedBlob } from '../index/index.js'
import { firstNot } from '../util/binary-search.js'
import { concernsCopy } from './pack-reader.js'

/** Bytes of other blobs between two trees (packs of format 1 may mix) that are worth reading over. */
const MAX_GAP = 64 << 10
const MAX_AHEAD = 15
/** Plaintext of a slice, as a multiple of its bytes in the pack: trees compress to a fourth or less. */
const PLAIN_FACTOR = 4

/** The trees of one pack, cut into slices, and how far decoding them has come in this process. */
export class TreePack {
  /** number of the first tree of each slice, and the number of trees */
  readonly #starts: number[] = []
  readonly #done: Uint8Array
  readonly #running = new Map<number, Promise<(Buffer | Error)[]>>()
  #left: number
  #failed = false
  /** slices that follow a demanded one unasked */
  #ahead = 0

  /** @param trees by offset */
  constructor(readonly number: number, readonly trees: readonly PackedBlob[], sliceBytes: number) {
    let first = 0
    let plain = 0
    for (let i = 0; i < trees.length; i++) {
      const { offset, length, plainLength } = trees[i]
      plain += plainLength || length
      const fits = i > 0 && offset + length - trees[first].offset <= sliceBytes && plain <= sliceBytes * PLAIN_FACTOR &&
        offset - (trees[i - 1].offset + trees[i - 1].length) <= MAX_GAP
      if (fits) continue
      this.#starts.push(first = i)
      plain = plainLength || length
    }
    this.#left = this.#starts.length
    this.#starts.push(trees.length)
    this.#done = new Uint8Array(this.#left)
  }

  /** every slice has been decoded */
  get finished(): boolean { return this.#left === 0 }
  /** some trees could not be had */
  get failed(): boolean { return this.#failed }

  /** Position of a tree; -1 if the list of this pack does not have it. */
  find(id: Uint8Array, offset: number): number {
    const position = firstNot(this.trees.length, i => this.trees[i].offset < offset)
    return position < this.trees.length && this.trees[position].offset === offset && this.trees[position].id.equals(id) ? position : -1
  }

  sliceAt(position: number): number { return firstNot(this.#starts.length, i => this.#starts[i] <= position) - 1 }
  start(slice: number): number { return this.#starts[slice] }
  isDone(slice: number): boolean { return this.#done[slice] === 1 }
  /** The first slice not decoded yet; -1 if none is left. One under way counts as left: run() joins it. */
  nextSlice(): number { return this.#done.indexOf(0) }

  /**
   * Slices to decode along with a demanded one: none at first, for a pack of one day's changes may hold only few trees of a snapshot; more with
   * each demand that finds the pack again, for the pack of a first backup holds a whole snapshot in order.
   */
  slicesBehind(slice: number): number[] {
    const slices = this.following(slice, this.#ahead)
    this.#ahead = Math.min(MAX_AHEAD, this.#ahead * 2 + 1)
    return slices
  }

  /** Of the `count` slices behind this one: those neither decoded nor under way. */
  following(slice: number, count: number): number[] {
    const slices: number[] = []
    for (let next = slice + 1; next <= slice + count && next < this.#done.length; next++) {
      if (this.#done[next] === 0 && !this.#running.has(next)) slices.push(next)
    }
    return slices
  }

  /** Decode a slice, or join those who do. `finished` is called when it was the last one. */
  run(slice: number, decode: (trees: readonly PackedBlob[]) => Promise<(Buffer | Error)[]>, finished: () => void): Promise<(Buffer | Error)[]> {
    const running = this.#running.get(slice)
    if (running !== undefined) return running
    const run = this.#run(slice, decode, finished)
    this.#running.set(slice, run)
    return run
  }

  async #run(slice: number, decode: (trees: readonly PackedBlob[]) => Promise<(Buffer | Error)[]>, finished: () => void): Promise<(Buffer | Error)[]> {
    const rows = await decode(this.trees.slice(this.#starts[slice], this.#starts[slice + 1]))
    this.#running.delete(slice)
    // Out of reach, not lost: the same may be had from here later.
    if (rows.some(rows => rows instanceof Error && !concernsCopy(rows))) return rows
    this.#done[slice] = 1
    this.#failed ||= rows.some(rows => rows instanceof Error)
    if (--this.#left === 0) finished()
    return rows
  }
}
