/** Requests sent a second time are that part of all, so that a system which is slow because it is overloaded does not get twice as much to do. */
const SHARE = 0.05
/** They may come together: when a server hangs, everything that is under way waits for it. */
const MOST_AT_ONCE = 5

/** How many more reads may be sent to a second location as well, because the first is slow. */
export class Hedges {
  #left = MOST_AT_ONCE

  /** a read begins */
  earn(): void { this.#left = Math.min(MOST_AT_ONCE, this.#left + SHARE) }

  take(): boolean {
    if (this.#left < 1) return false
    this.#left--
    return true
  }
}
