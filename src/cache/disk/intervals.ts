/** Stretches of a file, [from, to) each: disjoint, not touching, ascending. */
export class Intervals {
  readonly #from: number[] = []
  readonly #to: number[] = []

  get count(): number { return this.#from.length }

  add(from: number, to: number): void {
    if (from >= to) return
    // those it touches: first is the first that ends at or behind `from`
    const first = this.#firstEndingFrom(from)
    let next = first
    while (next < this.#from.length && this.#from[next] <= to) next++
    if (first < next) {
      from = Math.min(from, this.#from[first])
      to = Math.max(to, this.#to[next - 1])
    }
    this.#from.splice(first, next - first, from)
    this.#to.splice(first, next - first, to)
  }

  /** Is all of it there? Of nothing, yes. */
  has(from: number, to: number): boolean {
    if (from >= to) return true
    const at = this.#firstEndingFrom(from + 1)
    return at < this.#from.length && this.#from[at] <= from && this.#to[at] >= to
  }

  /** What of it is not there, ascending. */
  holes(from: number, to: number): [number, number][] {
    const holes: [number, number][] = []
    for (let at = this.#firstEndingFrom(from + 1); from < to; at++) {
      const start = at < this.#from.length ? Math.min(this.#from[at], to) : to
      if (start > from) holes.push([from, start])
      if (start === to) break
      from = this.#to[at]
    }
    return holes
  }

  #firstEndingFrom(end: number): number {
    let low = 0
    let high = this.#to.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#to[middle] < end) low = middle + 1
      else high = middle
    }
    return low
  }
}
