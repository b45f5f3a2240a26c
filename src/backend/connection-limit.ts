import { abortedError, throwIfAborted } from '../util/abort.js'
import { AroundBackend } from './around.js'
import type { ReadOptions } from './backend.js'

/** No more requests at once than the backend has connections. The others wait in the order they came; who gives up waits no longer. */
export class ConnectionLimit extends AroundBackend {
  #running = 0
  readonly #waiting = new Set<() => void>()

  protected override async around<T>(options: ReadOptions, request: (options: ReadOptions) => Promise<T>): Promise<T> {
    throwIfAborted(options.signal)
    if (this.#running < this.connections) this.#running++
    else await this.#turn(options.signal)
    try {
      return await request(options)
    } finally {
      this.#release()
    }
  }

  /** The place of one that is done, handed over. */
  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = () => {
        this.#waiting.delete(go)
        reject(abortedError(signal))
      }
      const go = () => {
        signal?.removeEventListener('abort', giveUp)
        resolve()
      }
      signal?.addEventListener('abort', giveUp, { once: true })
      this.#waiting.add(go)
    })
  }

  #release(): void {
    for (const next of this.#waiting) {
      this.#waiting.delete(next)
      next()
      return
    }
    this.#running--
  }
}
