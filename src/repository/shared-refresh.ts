/**
 * One look at the repository for all who ask. Who asks while one is under way gets the next, as that may have listed
 * before the change which the caller noticed; all who wait for the next share it.
 */
export class SharedRefresh {
  readonly #refresh: () => Promise<boolean>
  #running: Promise<boolean> | null = null
  #next: Promise<boolean> | null = null

  constructor(refresh: () => Promise<boolean>) { this.#refresh = refresh }

  /** @returns whether something new was learnt */
  readonly run = (): Promise<boolean> => {
    if (this.#running === null) return this.#start()
    return this.#next ??= this.#running.catch(() => false).then(() => {
      this.#next = null
      return this.#running ?? this.#start()
    })
  }

  #start(): Promise<boolean> {
    const running = Promise.resolve().then(this.#refresh).finally(() => { this.#running = null })
    return this.#running = running
  }
}
