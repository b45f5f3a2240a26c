/**
 * One run for all who ask. Who asks while one is under way gets the next, as that one may have looked before the change which
 * the caller noticed; all who wait for the next share it.
 */
export class SharedRun<T> {
  readonly #work: () => Promise<T>
  #running: Promise<T> | null = null
  #next: Promise<T> | null = null

  constructor(work: () => Promise<T>) { this.#work = work }

  run(): Promise<T> {
    if (!this.#running) return this.#start()
    return this.#next ??= this.#running.then(() => {}, () => {}).then(() => {
      this.#next = null
      return this.#running ?? this.#start()
    })
  }

  #start(): Promise<T> {
    const running = Promise.resolve().then(this.#work).finally(() => { this.#running = null })
    return this.#running = running
  }
}
