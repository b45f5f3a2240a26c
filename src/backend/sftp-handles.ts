import type { SshConnection } from './ssh/connection.js'

const MAX_HANDLES = 16
/** The space of a deleted pack comes back only when it is closed. */
const IDLE_MS = 10_000

interface Entry { readonly handle: Promise<Buffer>, readers: number, usedMs: number }

/** Files kept open on one connection between reads: a pack is read in many ranges, and opening takes as long as reading one. */
export class SftpHandles {
  readonly #connection: SshConnection
  readonly #entries = new Map<string, Entry>()
  readonly #timer: NodeJS.Timeout

  constructor(connection: SshConnection) {
    this.#connection = connection
    this.#timer = setInterval(() => this.#closeIdle(), IDLE_MS).unref()
    connection.client.once('close', () => clearInterval(this.#timer))
  }

  /** Rejects as the server does when the file cannot be opened. */
  async use<T>(path: string, work: (handle: Buffer) => Promise<T>): Promise<T> {
    const entry = this.#entries.get(path) ?? { handle: openFile(this.#connection, path), readers: 0, usedMs: 0 }
    this.#entries.delete(path)
    this.#entries.set(path, entry) // to the young end
    entry.readers++
    try {
      return await work(await entry.handle)
    } catch (error) {
      if (this.#entries.get(path) === entry) this.#entries.delete(path)
      throw error
    } finally {
      entry.readers--
      entry.usedMs = performance.now()
      if (this.#entries.get(path) !== entry) this.#closeIfUnused(entry)
      for (const [oldest, { readers }] of this.#entries) {
        if (this.#entries.size <= MAX_HANDLES) break
        if (readers === 0) this.#drop(oldest)
      }
    }
  }

  #drop(path: string): void {
    const entry = this.#entries.get(path)!
    this.#entries.delete(path)
    this.#closeIfUnused(entry)
  }

  #closeIfUnused(entry: Entry): void {
    if (entry.readers === 0) entry.handle.then(handle => closeFile(this.#connection, handle), () => {})
  }

  #closeIdle(): void {
    const before = performance.now() - IDLE_MS
    for (const [path, { readers, usedMs }] of this.#entries) if (readers === 0 && usedMs < before) this.#drop(path)
  }
}

export function openFile(connection: SshConnection, path: string): Promise<Buffer> {
  return connection.call<Buffer>(done => connection.sftp.open(path, 'r', done))
}

/** Nobody waits for it. */
export function closeFile(connection: SshConnection, handle: Buffer): void {
  if (!connection.closed) connection.call<void>(done => connection.sftp.close(handle, error => done(error, undefined))).catch(() => {})
}
