/**
 * One run for all who ask. Who asks while one is under way gets the next, as that one may have looked before the change which
 * the caller noticed; all who wait for the next share it.
 */
export class SharedRun<T> {
  readonly #work: () => Promise<T>
  #running: Promise<T> | null = null
  #next: Promise<T> | null = null
  /** a run begins at the end of the turn: until then nothing has been looked at, and all who ask share it */
  #begun = false

  constructor(work: () => Promise<T>) { this.#work = work }

  run(): Promise<T> {
    if (!this.#running) return this.#start()
    if (!this.#begun) return this.#running
    return this.#next ??= this.#running.then(() => {}, () => {}).then(() => {
      this.#next = null
      return this.#running ?? this.#start()
    })
  }

  #start(): Promise<T> {
    this.#begun = false
    const running = Promise.resolve().then(() => {
      this.#begun = true
      return this.#work()
    }).finally(() => { this.#running = null })
    return this.#running = running
  }
}
