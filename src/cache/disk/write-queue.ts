/** A piece of a pack on its way to the disk. Its memory is used again when it is there. */
export interface Write {
  readonly name: string
  readonly kind: 'data' | 'trees'
  readonly offset: number
  readonly length: number
  readonly chunks: Buffer[]
}

const CHUNK = 1 << 20
/** At once: each is a few hops to a thread pool that others keep busy. Of one pack only one, so that they stay in order. */
const WRITES_AT_ONCE = 3
/** Chunks kept for the next write; more are left to the collector, which is dearer than they are. */
const IDLE_CHUNKS = 8

/**
 * Copies of what was fetched, until the disk has them. Bounded: what comes faster than the disk takes it is not kept.
 * Until then they answer for the disk.
 */
export class WriteQueue {
  readonly #maxBytes: number
  readonly #perform: (write: Write) => Promise<void>
  readonly #waiting: Write[] = []
  readonly #byName = new Map<string, Write[]>()
  readonly #idle: Buffer[] = []
  #bytes = 0
  readonly #roomWanted = new Set<() => void>()
  readonly #underWay = new Map<string, Promise<void>>()
  #beginning = false

  /** @param perform must not reject */
  constructor(maxBytes: number, perform: (write: Write) => Promise<void>) {
    this.#maxBytes = maxBytes
    this.#perform = perform
  }

  /** bytes in memory */
  get bytes(): number { return this.#bytes }

  /** Wait for room, but no longer than that. @param share of the queue that may be in use then */
  async room(bytes: number, patienceMs: number, share = 1): Promise<void> {
    const max = Math.max(bytes, this.#maxBytes * share)
    if (bytes > this.#maxBytes) return
    const end = performance.now() + patienceMs
    for (let left = patienceMs; left > 0 && this.#bytes + bytes > max; left = end - performance.now()) {
      await new Promise<void>(resolve => {
        const go = () => {
          clearTimeout(timer)
          this.#roomWanted.delete(go)
          resolve()
        }
        const timer = setTimeout(go, left)
        this.#roomWanted.add(go)
      })
    }
  }

  /** Copies the bytes. @returns false if there is no room for them in this share of the queue */
  put(name: string, kind: 'data' | 'trees', offset: number, bytes: Buffer, share = 1): boolean {
    if (bytes.length === 0) return true
    if (this.#bytes + bytes.length > this.#maxBytes * share) return false
    const chunks: Buffer[] = []
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const length = Math.min(CHUNK, bytes.length - at)
      const chunk = (this.#idle.pop() ?? Buffer.allocUnsafeSlow(CHUNK)).subarray(0, length)
      bytes.copy(chunk, 0, at, at + length)
      chunks.push(chunk)
    }
    const write = { name, kind, offset, length: bytes.length, chunks }
    this.#bytes += bytes.length
    this.#waiting.push(write)
    this.#byName.set(name, [...this.#byName.get(name) ?? [], write])
    this.#beginSoon()
    return true
  }

  /** Are these bytes on their way, all in one piece? */
  has(name: string, offset: number, length: number): boolean { return this.#find(name, offset, length) !== undefined }

  /** @returns false if they are not on their way */
  read(name: string, offset: number, into: Buffer): boolean {
    const write = this.#find(name, offset, into.length)
    if (write === undefined) return false
    let at = offset - write.offset
    for (let done = 0; done < into.length;) {
      const chunk = write.chunks[Math.floor(at / CHUNK)]
      const copied = chunk.copy(into, done, at % CHUNK)
      done += copied
      at += copied
    }
    return true
  }

  /** The youngest: it may be there to replace an older one. */
  #find(name: string, offset: number, length: number): Write | undefined {
    return this.#byName.get(name)?.findLast(write => write.offset <= offset && write.offset + write.length >= offset + length)
  }

  /** Forget what has not been begun. */
  drop(): void {
    for (const write of this.#waiting.splice(0)) this.#done(write)
  }

  /** Resolves when nothing waits any more. */
  async drained(): Promise<void> {
    while (this.#waiting.length > 0 || this.#underWay.size > 0) {
      if (this.#underWay.size > 0) await Promise.race(this.#underWay.values())
      else await new Promise(setImmediate)
    }
  }

  // Not in the turn of the caller, who has something better to do.
  #beginSoon(): void {
    if (this.#beginning) return
    this.#beginning = true
    setImmediate(() => {
      this.#beginning = false
      this.#begin()
    })
  }

  #begin(): void {
    for (let i = 0; i < this.#waiting.length && this.#underWay.size < WRITES_AT_ONCE;) {
      const write = this.#waiting[i]
      if (this.#underWay.has(write.name)) {
        i++
        continue
      }
      this.#waiting.splice(i, 1)
      this.#underWay.set(write.name, this.#perform(write).then(() => {
        this.#underWay.delete(write.name)
        this.#done(write)
        this.#begin()
      }))
    }
  }

  #done(write: Write): void {
    const writes = this.#byName.get(write.name)!.filter(other => other !== write)
    if (writes.length === 0) this.#byName.delete(write.name)
    else this.#byName.set(write.name, writes)
    this.#bytes -= write.length
    for (const go of this.#roomWanted) go()
    for (const chunk of write.chunks) if (this.#idle.length < IDLE_CHUNKS) this.#idle.push(Buffer.from(chunk.buffer, 0, CHUNK))
  }
}
