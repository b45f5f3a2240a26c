/**
 * Run `work` over all items, at most `limit` at once, in order of the items. The first failure stops further items from being
 * begun; it is thrown when those under way have ended, so nothing runs on behind the caller's back.
 */
export async function forEachLimited<T>(items: Iterable<T>, limit: number, work: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]()
  let failure: { error: unknown } | undefined
  const lane = async () => {
    while (!failure) {
      const next = iterator.next()
      if (next.done) return
      try {
        await work(next.value)
      } catch (error) {
        failure ??= { error }
      }
    }
  }
  await Promise.all(Array.from({ length: Math.max(1, limit) }, lane))
  if (failure) throw failure.error
}

/** A lock on an amount (bytes in memory): `acquire` waits until it fits. One item larger than everything is let through alone. */
export class Budget {
  #free: number
  readonly #waiting: { amount: number, go: () => void }[] = []

  constructor(readonly total: number) { this.#free = total }

  async acquire(amount: number): Promise<() => void> {
    const taken = Math.min(amount, this.total)
    if (this.#waiting.length > 0 || this.#free < taken) await new Promise<void>(go => this.#waiting.push({ amount: taken, go }))
    else this.#free -= taken
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#free += taken
      while (this.#waiting.length > 0 && this.#waiting[0].amount <= this.#free) {
        const next = this.#waiting.shift()!
        this.#free -= next.amount
        next.go()
      }
    }
  }
}
