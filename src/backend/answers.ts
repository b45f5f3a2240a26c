import type { Handle } from './backend.js'
import { fileName } from './file-name.js'

/** Of reads longer ago it is not remembered who answered: then it is taken to have been the first source. */
const KEPT = 512

interface Answer { readonly file: string, readonly offset: number, readonly end: number, readonly source: number }

/**
 * Who answered which read: what arrived proves right or wrong only later, in the hands of the caller, and `again` says no more
 * than how often it was wrong.
 */
export class Answers {
  readonly #latest: Answer[] = []
  #next = 0
  /** by file and offset: sources whose bytes were wrong */
  readonly #wrong = new Map<string, number[]>()

  note(handle: Handle, offset: number, length: number, source: number): void {
    this.#latest[this.#next++ % KEPT] = { file: fileName(handle), offset, end: offset + length, source }
  }

  /**
   * These bytes proved wrong for the `again`-th time.
   * @returns sources which have given wrong ones by now, the latest last; none of them is to be asked again
   */
  wrong(handle: Handle, offset: number, length: number, again: number, sources: number): readonly number[] {
    const key = `${fileName(handle)} ${offset}`
    // What was found out about an earlier request for these bytes may be long ago.
    const wrong = again === 1 ? [] : this.#wrong.get(key) ?? []
    // Else this is the same question once more, because the source that was to answer it did not.
    if (wrong.length < again) {
      const source = this.#whoAnswered(fileName(handle), offset, offset + length)
      if (source !== null && !wrong.includes(source)) wrong.push(source)
      for (let next = 0; wrong.length < again && next < sources; next++) if (!wrong.includes(next)) wrong.push(next)
    }
    this.#wrong.delete(key)
    this.#wrong.set(key, wrong)
    for (const oldest of this.#wrong.keys()) {
      if (this.#wrong.size <= KEPT) break
      this.#wrong.delete(oldest)
    }
    return wrong
  }

  /** The latest one: a blob is asked for again by itself, which came as part of a longer range. */
  #whoAnswered(file: string, offset: number, end: number): number | null {
    for (let i = this.#next - 1; i >= Math.max(0, this.#next - KEPT); i--) {
      const answer = this.#latest[i % KEPT]
      if (answer.file === file && answer.offset <= offset && answer.end >= end) return answer.source
    }
    return null
  }
}
