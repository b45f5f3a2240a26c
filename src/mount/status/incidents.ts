import type { Fields, Logger } from '../../util/log.js'
import type { DamagedFile, DamageStatus } from './record.js'

/** So many damaged files are told apart; of more, only that there are more is known. */
const MAX_NAMED = 1000
const MAX_SHOWN = 20
const MAX_REASON = 300

interface Damaged extends Omit<DamagedFile, 'time'> { readonly timeMs: number }

/**
 * What went wrong in a mount, as its log hears of it: whatever is warned of with a `code` is counted by that, and what names a damaged `file` is remembered. So
 * nobody who finds a fault has to know who else would like to hear of it.
 */
export class Incidents {
  /** by file and location, the one noticed last at the end */
  readonly #damaged = new Map<string, Damaged>()
  readonly #errors = new Map<string, number>()
  readonly #location: string
  readonly #now: () => number

  /** @param location where a damaged file is, if nothing else is said */
  constructor(location: string, now: () => number = Date.now) {
    this.#location = location
    this.#now = now
  }

  /** A log that is listened to. */
  listen(log: Logger): Logger {
    return {
      debug: (message, fields) => log.debug(message, fields),
      info: (message, fields) => log.info(message, fields),
      warn: (message, fields) => { this.#note(message, fields); log.warn(message, fields) },
      error: (message, fields) => { this.#note(message, fields); log.error(message, fields) },
    }
  }

  get damage(): DamageStatus {
    const last = [...this.#damaged.values()].slice(-MAX_SHOWN).reverse()
    return { count: this.#damaged.size, last: last.map(({ timeMs, ...damaged }) => ({ ...damaged, time: new Date(timeMs).toISOString() })) }
  }

  get errors(): Record<string, number> { return Object.fromEntries(this.#errors) }

  #note(message: string, fields: Fields = {}): void {
    const { code, damaged, location = this.#location } = fields
    const kind = typeof code === 'string' ? code : 'other'
    if ('code' in fields) this.#errors.set(kind, (this.#errors.get(kind) ?? 0) + 1)
    if (typeof damaged !== 'string') return
    const key = `${damaged} ${String(location)}`
    const before = this.#damaged.get(key)
    if (before === undefined && this.#damaged.size >= MAX_NAMED) return
    this.#damaged.delete(key)
    this.#damaged.set(key, { file: damaged, location: String(location), reason: message.slice(0, MAX_REASON), timeMs: this.#now(), times: (before?.times ?? 0) + 1 })
  }
}
