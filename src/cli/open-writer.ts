import type { Backend } from '../backend/backend.js'
import { openWritable } from '../backend/open-backend.js'
import { RepositoryLock } from '../repository/locks.js'
import type { WriteAccess } from '../repository/save-unpacked.js'
import { backendOptions } from './backend-options.js'
import type { GlobalOptions } from './global-options.js'
import { openReader, type Reader } from './open-reader.js'
import { repositoryAccess } from './repository-access.js'
import { parseSeconds } from './values.js'

/** A repository opened by a command that changes it. What is read comes through `reader`, with its cache and replicas; what is written goes to the first location alone. */
export interface Writer {
  readonly reader: Reader
  readonly access: WriteAccess
  /** ends with SIGINT, SIGTERM, or when the lock is lost */
  readonly signal: AbortSignal
  /** @returns what to call when the work is done */
  lock(options: { exclusive: boolean, onCreated?: () => void }): Promise<() => Promise<void>>
  close(): Promise<void>
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** of zstd, for what is written besides contents */
const LEVEL = 3

/** @throws what openReader throws */
export async function openWriter(options: GlobalOptions): Promise<Writer> {
  const reader = await openReader(options)
  let backend: Backend
  try {
    const { access } = await repositoryAccess(options)
    backend = await openWritable(access.location, backendOptions(options), reader.log)
  } catch (error) {
    await reader.close()
    throw error
  }
  const { repository: { keys, version }, log } = reader
  const stop = new AbortController()
  // A second one ends the process at once: Node's own way, once nobody listens.
  const onSignal = (signal: NodeJS.Signals) => {
    stop.abort(new Error(signal))
    for (const name of SIGNALS) process.removeListener(name, onSignal)
  }
  for (const name of SIGNALS) process.on(name, onSignal)
  const access = { backend, keys, version, level: LEVEL }
  return {
    reader, access, signal: stop.signal,
    async lock({ exclusive, onCreated }) {
      const waitMs = options.retryLock === undefined ? 0 : parseSeconds('--retry-lock', options.retryLock) * 1000
      const lock = await RepositoryLock.acquire(access, { exclusive, onCreated, waitMs, log, signal: stop.signal, onLost: error => stop.abort(error) })
      return () => lock.release()
    },
    async close() {
      for (const name of SIGNALS) process.removeListener(name, onSignal)
      await backend.close()
      await reader.close()
    },
  }
}
