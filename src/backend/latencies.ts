/** Of each kind, the latest so many. */
const KEPT = 128
/** Fewer say nothing about the slowest twentieth. */
const LEAST = 20
/** The percentile is looked up for every read, and changes little with each. */
const LOOK_EVERY = 8
/** Reads up to so many bytes are of one kind; what is longer is of a kind of its own. */
const KINDS = [64 << 10, 1 << 20, 8 << 20]

/** How long reads took, short and long ones each for themselves: a long one takes as long as its bytes do. */
export class Latencies {
  readonly #kinds = Array.from({ length: KINDS.length + 1 }, () => ({ times: new Float64Array(KEPT), count: 0, p95: null as number | null }))

  add(length: number, ms: number): void {
    const kind = this.#kindOf(length)
    kind.times[kind.count++ % KEPT] = ms
    if (kind.count < LEAST || kind.count % LOOK_EVERY !== 0 && kind.p95 !== null) return
    const sorted = kind.times.slice(0, Math.min(kind.count, KEPT)).sort()
    kind.p95 = sorted[Math.ceil(sorted.length * 0.95) - 1]
  }

  /** ms within which 19 of 20 such reads were answered; null as long as too few were seen */
  p95(length: number): number | null { return this.#kindOf(length).p95 }

  #kindOf(length: number) {
    const kind = KINDS.findIndex(longest => length <= longest)
    return this.#kinds[kind < 0 ? KINDS.length : kind]
  }
}
