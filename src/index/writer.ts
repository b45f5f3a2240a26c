import { Worker } from 'node:worker_threads'
import { DaybookError } from '../errors.js'
import { classify } from './failure.js'
import type { Failure } from './failure.js'
import type { Answer, Job, WorkerData } from './jobs.js'
import { TRANSACTION_BYTES } from './limits.js'

/** What makes a job, anew for each attempt: its buffers are handed over. */
type MakeJob = () => Job

interface Pending {
  readonly make: MakeJob
  /** has its place, and not yet what it is made of */
  unready: boolean
  attempts: number
  resolve(): void
  reject(error: unknown): void
}
interface PendingRows { readonly batch: RowsOfTree[], bytes: number, readonly done: Promise<void> }
interface RowsOfTree { id: Uint8Array, rows: Uint8Array }

export interface WriterEvents {
  /** A write can be read; called before its promise resolves. */
  written(): void
  /** The file cannot be worked with: use() is expected, and until then jobs wait. */
  failed(failure: Failure, error: Error): void
}

/** How often a job is given to a worker before it is given up: each time on another file, or after waiting for a lock. */
const MAX_ATTEMPTS = 6
const CLOSE_MS = 10_000
/** A thread that has nothing to do for so long is ended: it holds 25 MB, and is started in 50 ms. */
const IDLE_MS = 3_000
// The heap holds little more than code: index files and rows travel in buffers outside of it.
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 96, maxYoungGenerationSizeMb: 8 }

/** The main side of the worker: one job under way at a time, in the order of the calls. The thread is started with the first. */
export class Writer {
  readonly #events: WriterEvents
  readonly #queue: Pending[] = []
  #current: Pending | null = null
  #lastRows: PendingRows | null = null
  #target: WorkerData | null = null
  #worker: Worker | null = null
  /** why nothing can be written */
  #broken: Error | null = null
  #closed = false
  /** called when nothing is left to do */
  #idle: (() => void) | null = null
  #idleTimer: NodeJS.Timeout | undefined

  constructor(events: WriterEvents) { this.#events = events }

  /** Write to this file from now on; jobs that wait or were under way are done there. */
  use(target: WorkerData): void {
    this.suspend()
    this.#broken = null
    this.#target = target
    this.#next()
  }

  /** Let go of the file; a job under way waits for the next one. */
  suspend(): void {
    this.#target = null
    const worker = this.#worker
    this.#worker = null
    if (this.#current) this.#queue.unshift(this.#current)
    this.#current = null
    // Its late answers find that it is no longer the worker.
    if (worker) void worker.terminate()
  }

  /** Reject everything, until use(): there is no file to write to. */
  fail(error: Error): void {
    this.suspend()
    this.#broken = error
    this.#lastRows = null
    for (const { reject } of this.#queue.splice(0)) reject(error)
    this.#idle?.()
  }

  /** @param ready what the job, and those behind it, wait for; if it rejects, so does the job, and nothing is written */
  run(make: MakeJob, ready?: Promise<unknown>): Promise<void> {
    if (this.#closed || this.#broken) return Promise.reject(this.#broken ?? new DaybookError('ERR_INDEX', 'index is closed'))
    this.#lastRows = null
    return new Promise((resolve, reject) => {
      const pending: Pending = { make, unready: ready !== undefined, attempts: 0, resolve, reject }
      this.#queue.push(pending)
      if (!ready) return this.#next()
      ready.then(() => {
        pending.unready = false
        this.#next()
      }, error => this.#drop(pending, error))
    })
  }

  /** Rows given while others wait go with them, in one job. */
  putRows(batch: RowsOfTree[]): Promise<void> {
    const bytes = batch.reduce((sum, { rows }) => sum + rows.length, 0)
    const waiting = this.#lastRows
    if (waiting && waiting.bytes + bytes <= TRANSACTION_BYTES && !this.#closed) {
      waiting.batch.push(...batch)
      waiting.bytes += bytes
      return waiting.done
    }
    const all = [...batch]
    const done = this.run(() => {
      // What comes now finds the job gone.
      if (this.#lastRows?.batch === all) this.#lastRows = null
      return rowsJob(all)
    })
    // It is the last of those waiting, if it has not been started.
    if (this.#queue.length > 0) this.#lastRows = { batch: all, bytes, done }
    return done
  }

  /** After what waits. What cannot be written within ten seconds is given up. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await within(CLOSE_MS, new Promise<void>(resolve => {
      this.#idle = resolve
      this.#next()
    }))
    clearTimeout(this.#idleTimer)
    const worker = this.#worker
    this.#worker = null
    if (worker) {
      const exited = new Promise<void>(resolve => worker.once('exit', () => resolve()))
      worker.ref()
      worker.postMessage({ kind: 'close' } satisfies Job)
      await within(CLOSE_MS, exited)
      await worker.terminate()
    }
    this.fail(new DaybookError('ERR_INDEX', 'index is closed'))
  }

  #next(): void {
    if (this.#current) return
    if (this.#queue.length === 0) {
      this.#worker?.unref()
      clearTimeout(this.#idleTimer)
      this.#idleTimer = setTimeout(() => this.#dismiss(), IDLE_MS).unref()
      this.#idle?.()
      return
    }
    if (!this.#target || this.#queue[0].unready) return
    const pending = this.#queue.shift()!
    this.#current = pending
    pending.attempts++
    let job: Job
    try { job = pending.make() } catch (error) { return this.#settle(() => pending.reject(error)) }
    const worker = this.#worker ??= this.#start(this.#target)
    worker.ref()
    worker.postMessage(job, buffersOf(job))
  }

  #drop(pending: Pending, error: unknown): void {
    const place = this.#queue.indexOf(pending)
    if (place >= 0) this.#queue.splice(place, 1)
    pending.reject(error)
    this.#next()
  }

  #dismiss(): void {
    if (this.#current || this.#queue.length > 0) return
    this.#worker?.postMessage({ kind: 'close' } satisfies Job)
    this.#worker = null
  }

  #start(target: WorkerData): Worker {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: target, resourceLimits: RESOURCE_LIMITS, name: 'daybook-index' })
    worker.on('message', (answer: Answer) => { if (worker === this.#worker) this.#answered(answer) })
    worker.on('error', error => { if (worker === this.#worker) this.#died(error) })
    worker.on('exit', code => { if (worker === this.#worker) this.#died(new Error(`the thread ended with ${code}`)) })
    return worker
  }

  #answered({ error }: Answer): void {
    const pending = this.#current
    if (!pending) return
    if (!error) {
      this.#events.written()
      return this.#settle(pending.resolve)
    }
    const cause = Object.assign(new Error(error.message), { code: error.code })
    const failure = classify(cause)
    if (failure === 'bug' || pending.attempts >= MAX_ATTEMPTS) return this.#giveUp(pending, cause)
    if (failure === 'busy' && pending.attempts < 3) {
      this.#queue.unshift(pending)
      return this.#settle(() => {})
    }
    this.suspend()
    this.#events.failed(failure === 'busy' ? 'unusable' : failure, cause)
  }

  // Out of memory, or a fault of ours. The index file itself is as after kill -9: sound.
  #died(cause: Error): void {
    const pending = this.#current
    const target = this.#target
    this.#worker = null
    if (pending && pending.attempts >= 3) return this.#giveUp(pending, cause)
    if (target) this.use(target)
  }

  #giveUp(pending: Pending, cause: Error): void {
    this.#settle(() => pending.reject(new DaybookError('ERR_INDEX', `index: ${cause.message}`, undefined, { cause })))
  }

  #settle(settle: () => void): void {
    this.#current = null
    settle()
    this.#next()
  }
}

function rowsJob(batch: RowsOfTree[]): Job {
  const ids = new Uint8Array(32 * batch.length)
  const lengths = new Float64Array(batch.length)
  const rows = new Uint8Array(batch.reduce((sum, each) => sum + each.rows.length, 0))
  let at = 0
  batch.forEach((each, i) => {
    ids.set(each.id, 32 * i)
    lengths[i] = each.rows.length
    rows.set(each.rows, at)
    at += each.rows.length
  })
  return { kind: 'putRows', ids, lengths, rows }
}

/** Every buffer in a job is of its own making. */
function buffersOf(job: Job): ArrayBuffer[] {
  return Object.values(job).filter(value => ArrayBuffer.isView(value)).map(view => view.buffer as ArrayBuffer)
}

async function within(ms: number, promise: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  await Promise.race([promise, new Promise<void>(resolve => { timer = setTimeout(resolve, ms) })])
  clearTimeout(timer)
}
