import type { SshConnection } from './connection.js'

/** After a further connection could not be had, for that long those there are must do: servers limit their number. */
const PAUSE_MS = 30_000

/**
 * Connections to one server, opened as they are needed: one carries many requests, but its window and the server's one process for it bound what comes
 * through. The next one is opened when all are busy; nobody waits for it.
 */
export class SshPool {
  readonly #open: () => Promise<SshConnection>
  readonly #max: number
  readonly #connections = new Set<SshConnection>()
  #opening: Promise<SshConnection> | null = null
  #pausedUntil = -Infinity
  #closed = false

  constructor(max: number, open: () => Promise<SshConnection>) {
    this.#max = max
    this.#open = open
  }

  /** The connection with the least to do. */
  async take(): Promise<SshConnection> {
    let least: SshConnection | null = null
    for (const connection of this.#connections) {
      if (connection.closed) this.#connections.delete(connection)
      else if (least === null || connection.running < least.running) least = connection
    }
    if (least === null) return this.#opening ?? this.#openOne()
    if (least.running > 0 && this.#connections.size < this.#max && this.#opening === null && performance.now() > this.#pausedUntil) {
      this.#openOne().catch(() => { this.#pausedUntil = performance.now() + PAUSE_MS })
    }
    return least
  }

  close(): void {
    this.#closed = true
    for (const connection of this.#connections) connection.destroy()
    this.#connections.clear()
  }

  #openOne(): Promise<SshConnection> {
    const opening = this.#open().then(connection => {
      if (this.#closed) connection.destroy()
      else this.#connections.add(connection)
      return connection
    }).finally(() => { this.#opening = null })
    opening.catch(() => {})
    return this.#opening = opening
  }
}
