import { CorruptError, DaybookError, NotFoundError } from '../errors.js'
import type { LocalIndex } from '../index/index.js'
import { throwIfAborted } from '../util/abort.js'
import { forEachLimited } from '../util/concurrency.js'
import type { Logger } from '../util/log.js'
import { SharedRun } from '../util/single-flight.js'
import type { Repository } from './repository.js'

const HEADERS_AT_ONCE = 4

/**
 * Finds packs that no index file lists, and learns their blobs from their own headers: what a damaged or lost index file knew is
 * in them as well. Costs a list of data/ and a request or two per pack, so it runs in the background and only where there is reason to.
 */
export class PackRecovery {
  readonly #run = new SharedRun(() => this.#recover())
  /** added here; they are in no index file, so nobody else would drop them when they are gone */
  readonly #recovered = new Set<string>()
  #last: Promise<number> = Promise.resolve(0)

  constructor(readonly repository: Repository, readonly index: LocalIndex,
    readonly options: { signal: AbortSignal, log: Logger, report: (error: DaybookError) => void }) {}

  /** what the latest run came to; never rejects */
  get last(): Promise<number> { return this.#last }

  /** @returns number of packs added */
  run(): Promise<number> {
    const running = this.#run.run()
    this.#last = running.catch(() => 0)
    return running
  }

  async #recover(): Promise<number> {
    const { repository, index, options: { signal, log, report } } = this
    let partial = false
    const packs = await repository.list('data', { signal, partial: () => { partial = true } })
    const listed = new Set(packs.map(({ name }) => name))
    const gone = partial ? [] : [...this.#recovered].filter(name => !listed.has(name))
    if (gone.length > 0) await index.removePacks(gone)
    for (const name of gone) this.#recovered.delete(name)

    let added = 0
    await forEachLimited(packs.filter(({ name }) => !index.hasPack(name)), HEADERS_AT_ONCE, async ({ name, size }) => {
      throwIfAborted(signal)
      try {
        await index.addPackHeader(name, await repository.loadPackHeader(name, size, { signal }))
        this.#recovered.add(name)
        added++
      } catch (error) {
        if (error instanceof NotFoundError) return
        if (!(error instanceof DaybookError) || signal.aborted || error.code === 'ERR_INDEX') throw error
        // A pack being written just now looks cut short; it will be in an index file soon.
        if (error instanceof CorruptError) report(error)
        else throw error
      }
    })
    if (added > 0) log.info('packs found by their own headers', { packs: added })
    return added
  }
}
