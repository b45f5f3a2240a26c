/**
 * One look at the repository for all who ask in a turn of the event loop. Who asks while one is under way shares the next one,
 * as this one may have listed before the change which the caller noticed.
 */
export class SharedRefresh {
  readonly #refresh: () => Promise<boolean>
  #running: Promise<boolean> | null = null
  /** not begun yet */
  #next: Promise<boolean> | null = null

  constructor(refresh: () => Promise<boolean>) { this.#refresh = refresh }

  /** @returns whether something new was learnt */
  readonly run = (): Promise<boolean> => this.#next ??= this.#runAfter(this.#running)

  async #runAfter(running: Promise<boolean> | null): Promise<boolean> {
    await running?.catch(() => {})
    await new Promise(setImmediate)
    this.#running = this.#next
    this.#next = null
    return this.#refresh()
  }
}
