import { hostname } from 'node:os'
import type { FileInfo } from '../backend/backend.js'
import { CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { decodeLockFile, encodeLockFile, type LockFile } from '../format/lock-file.js'
import { MAX_FILE_LENGTH } from '../format/limits.js'
import { formatTimestamp } from '../format/time.js'
import { decryptFile } from '../crypto/decrypt.js'
import { throwIfAborted } from '../util/abort.js'
import { forEachLimited } from '../util/concurrency.js'
import { username } from '../util/username.js'
import type { Logger } from '../util/log.js'
import { saveUnpacked, type WriteAccess } from './save-unpacked.js'

/** restic's: a lock not refreshed for that long is nobody's any more. */
const STALE_MS = 30 * 60_000
const REFRESH_MS = 5 * 60_000
/** Given up before others may take the lock for stale; the difference is for clocks that do not agree. */
const LOST_MS = STALE_MS - REFRESH_MS * 1.5
/** Two who lock at the same time both see the other's lock after that. */
const SETTLE_MS = 200
const RETRY_MS = 1000
const LOCKS_AT_ONCE = 8

export interface LockOptions {
  /** nobody else may work on the repository; else nobody who wants it for himself */
  exclusive?: boolean
  /** keep trying for that long */
  waitMs?: number
  /** called once when the lock could not be refreshed in time: what is under way must end */
  onLost: (error: DaybookError) => void
  /** called when the lock is in the repository, and it has yet to be seen whether others had it at the same moment: what only reads may begin */
  onCreated?: () => void
  log: Logger
  signal?: AbortSignal
  /** for tests */
  refreshMs?: number
  settleMs?: number
}

/** A lock of somebody else. */
export interface FoundLock extends LockFile { readonly name: string }

/**
 * A lock in the repository, by restic's protocol, so that restic and daybook respect one another: look, lock, wait a moment, look again. It is refreshed by a new
 * lock file before the old one is removed. Locks that are stale, and in the way, are removed.
 */
export class RepositoryLock {
  readonly #access: WriteAccess
  readonly #options: LockOptions
  readonly #timer: NodeJS.Timeout
  #name: string
  #refreshedAt = Date.now()
  #refreshing: Promise<void> | null = null
  #released = false

  private constructor(access: WriteAccess, name: string, options: LockOptions) {
    this.#access = access
    this.#name = name
    this.#options = options
    this.#timer = setInterval(() => { this.#refreshing ??= this.#refresh().finally(() => { this.#refreshing = null }) }, options.refreshMs ?? REFRESH_MS).unref()
  }

  /** @throws DaybookError ERR_LOCKED naming who has it */
  static async acquire(access: WriteAccess, options: LockOptions): Promise<RepositoryLock> {
    const deadline = Date.now() + (options.waitMs ?? 0)
    for (let told = false; ; told = true) {
      try {
        return await RepositoryLock.#tryAcquire(access, options)
      } catch (error) {
        if (!(error instanceof DaybookError) || error.code !== 'ERR_LOCKED' || Date.now() + RETRY_MS > deadline) throw error
        if (!told) options.log.warn(`${error.message}; waiting`)
        await sleep(RETRY_MS, options.signal)
      }
    }
  }

  static async #tryAcquire(access: WriteAccess, options: LockOptions): Promise<RepositoryLock> {
    await mustBeFree(access, null, options)
    const lock = new RepositoryLock(access, await create(access, options), options)
    try {
      options.onCreated?.()
      await sleep(options.settleMs ?? SETTLE_MS, options.signal)
      await mustBeFree(access, lock.#name, options)
      return lock
    } catch (error) {
      await lock.release()
      throw error
    }
  }

  /** Never rejects: a lock that stays behind is reported, and stale in half an hour. */
  async release(): Promise<void> {
    if (this.#released) return
    this.#released = true
    clearInterval(this.#timer)
    await this.#refreshing
    await remove(this.#access, this.#name).catch(error => this.#options.log.warn('the lock could not be removed; `daybook unlock` does that', { error }))
  }

  async #refresh(): Promise<void> {
    try {
      const name = await create(this.#access, this.#options)
      const old = this.#name
      this.#name = name
      this.#refreshedAt = Date.now()
      await remove(this.#access, old)
    } catch (error) {
      this.#options.log.warn('the lock could not be refreshed', { error: error as Error })
      if (Date.now() - this.#refreshedAt < LOST_MS || this.#released) return
      clearInterval(this.#timer)
      this.#options.onLost(new DaybookError('ERR_LOCKED', 'the lock of the repository was lost: it could not be refreshed in time', 'what was stored so far is found again by the next run', { cause: error }))
    }
  }
}

/** Locks there are now. One that cannot be read counts as somebody's: it is not known whether it may be ignored. */
export async function listLocks(access: WriteAccess): Promise<FoundLock[]> {
  const locks: FoundLock[] = []
  await forEachLimited(await access.backend.list('locks'), LOCKS_AT_ONCE, async file => {
    const lock = await readLock(access, file)
    if (lock !== null) locks.push(lock)
  })
  return locks
}

/** null: there is none, or it was left behind by who was cut off before anything was written. */
async function readLock({ backend, keys, version }: WriteAccess, { name, size }: FileInfo): Promise<FoundLock | null> {
  if (size === 0) return null
  try {
    const bytes = await backend.readAll({ type: 'locks', name }, MAX_FILE_LENGTH.locks)
    return { name, ...decodeLockFile(name, await decryptFile(`lock ${name}`, keys, bytes, { zstd: version >= 2, maxLength: MAX_FILE_LENGTH.locks })) }
  } catch (error) {
    if (error instanceof NotFoundError) return null
    throw error
  }
}

/** Remove locks that nobody holds any more, or all. What cannot be read is only removed with all. @returns how many */
export async function removeLocks(access: WriteAccess, all: boolean, onUnreadable: (name: string, error: Error) => void): Promise<number> {
  let removed = 0
  await forEachLimited(await access.backend.list('locks'), LOCKS_AT_ONCE, async file => {
    if (!all) {
      const lock = await readLock(access, file).catch(error => {
        if (!(error instanceof CorruptError)) throw error
        onUnreadable(file.name, error)
        return null
      })
      if (lock === null || !isStale(lock)) return
    }
    await remove(access, file.name)
    removed++
  })
  return removed
}

/** Nobody holds it any more: not refreshed for long, or of a process on this machine that is gone. */
export function isStale({ timeMs, hostname: host, pid }: LockFile, now = Date.now()): boolean {
  if (now - timeMs > STALE_MS) return true
  if (host !== hostname() || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

async function mustBeFree(access: WriteAccess, own: string | null, { exclusive = false, log }: LockOptions): Promise<void> {
  for (const lock of await listLocks(access)) {
    if (lock.name === own || !exclusive && !lock.exclusive) continue
    if (isStale(lock)) {
      log.info(`removing a stale lock of ${owner(lock)}`)
      await remove(access, lock.name)
      continue
    }
    throw new DaybookError('ERR_LOCKED', `the repository is locked${lock.exclusive ? ' exclusively' : ''} by ${owner(lock)}`, 'wait until it is done, or --retry-lock 10m; if nobody is at work, remove the lock with `daybook unlock`')
  }
}

function create(access: WriteAccess, { exclusive = false }: LockOptions): Promise<string> {
  const lock = encodeLockFile({ exclusive, hostname: hostname(), username: username(), pid: process.pid }, formatTimestamp(Date.now()), process.getuid!(), process.getgid!())
  return saveUnpacked(access, 'locks', lock)
}

async function remove({ backend }: WriteAccess, name: string): Promise<void> {
  await backend.remove({ type: 'locks', name }).catch(error => {
    if (!(error instanceof NotFoundError)) throw error
  })
}

function owner({ username, hostname, pid, timeMs }: LockFile): string {
  return `${username || 'somebody'} on ${hostname || 'an unknown machine'}, process ${pid}, since ${formatTimestamp(timeMs)}`
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  throwIfAborted(signal)
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      try {
        throwIfAborted(signal)
        resolve()
      } catch (error) {
        reject(error)
      }
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done, { once: true })
  })
}
