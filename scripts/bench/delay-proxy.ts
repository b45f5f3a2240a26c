import { connect, createServer, type Socket } from 'node:net'

/*
 * A far link on the loopback: forwards connections to a port of 127.0.0.1, and delays what comes by half the round trip in each direction. Opening a connection
 * takes a round trip, too. Without a rate it takes nothing of the bandwidth; with one, all connections share it, each direction for itself.
 * Runs as a process of its own, forked by far-link.ts, which it asks for orders and tells what was counted.
 */
export interface ProxyOrder { readonly port: number, readonly roundTripMs: number, /** bits per second; 0: no limit */ readonly bitsPerSecond: number }
export interface ProxyCounts {
  readonly requests: number
  /** to the client */
  readonly bytes: number
  /** opened */
  readonly connections: number
}

/** Bytes a connection may have under way: more than a round trip of 100 ms takes at a GB/s. */
const MAX_QUEUED = 128 << 20
const HEADER_END = Buffer.from('\r\n\r\n')

const NONE: ProxyCounts = { requests: 0, bytes: 0, connections: 0 }
let counts = { ...NONE }

/** The bits of one direction of the link go one after the other. */
class Wire {
  #freeAt = 0
  constructor(readonly bytesPerMs: number) {}

  /** @returns when the last of them has gone */
  send(bytes: number): number {
    const now = performance.now()
    if (this.bytesPerMs === 0) return now
    return this.#freeAt = Math.max(now, this.#freeAt) + bytes / this.bytesPerMs
  }
}

/** One direction of a connection: what comes from `from` reaches `to` later, in order. */
class DelayLine {
  readonly #queue: { readonly chunk: Buffer | null, readonly due: number }[] = []
  #queuedBytes = 0
  #timer: NodeJS.Timeout | null = null

  constructor(readonly from: Socket, readonly to: Socket, wire: Wire, delayMs: number, openAt: number, seen: (chunk: Buffer) => void) {
    from.on('data', (chunk: Buffer) => {
      seen(chunk)
      this.#put(chunk, Math.max(wire.send(chunk.length), openAt) + delayMs)
    })
    from.on('end', () => this.#put(null, Math.max(performance.now(), openAt) + delayMs))
    to.on('drain', () => this.#flow())
  }

  #put(chunk: Buffer | null, due: number): void {
    this.#queue.push({ chunk, due })
    this.#queuedBytes += chunk?.length ?? 0
    if (this.#queuedBytes > MAX_QUEUED) this.from.pause()
    this.#flow()
  }

  #flow(): void {
    if (this.#timer !== null) return
    const now = performance.now()
    // A timer of Node's may come a ms late, never early: what is due within the half of one goes now.
    while (this.#queue.length > 0 && this.#queue[0].due <= now + 0.5 && !this.to.writableNeedDrain) {
      const { chunk } = this.#queue.shift()!
      if (chunk === null) this.to.end()
      else {
        this.#queuedBytes -= chunk.length
        this.to.write(chunk)
      }
    }
    if (this.#queuedBytes <= MAX_QUEUED / 2 && this.from.isPaused()) this.from.resume()
    if (this.#queue.length === 0 || this.to.writableNeedDrain) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#flow()
    }, Math.max(0, this.#queue[0].due - now))
  }
}

/** Ends of HTTP headers, also of those that come in two pieces. Requests without a body, which is all that reading needs. */
function requestCounter(began: () => void): (chunk: Buffer) => void {
  let tail: Buffer = Buffer.alloc(0)
  return chunk => {
    const text = Buffer.concat([tail, chunk])
    let from = 0
    for (let at = text.indexOf(HEADER_END); at >= 0; at = text.indexOf(HEADER_END, from)) {
      from = at + HEADER_END.length
      began()
    }
    tail = text.subarray(Math.max(from, text.length - HEADER_END.length + 1))
  }
}

function serve({ port, roundTripMs, bitsPerSecond }: ProxyOrder): void {
  const wires = [new Wire(bitsPerSecond / 8000), new Wire(bitsPerSecond / 8000)]
  const server = createServer({ noDelay: true }, client => {
    const upstream = connect({ port, host: '127.0.0.1', noDelay: true })
    const openAt = performance.now() + roundTripMs
    counts.connections++
    new DelayLine(client, upstream, wires[0], roundTripMs / 2, openAt, requestCounter(() => { counts.requests++ }))
    new DelayLine(upstream, client, wires[1], roundTripMs / 2, 0, chunk => { counts.bytes += chunk.length })
    const end = () => {
      client.destroy()
      upstream.destroy()
    }
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end)
  })
  server.listen(0, '127.0.0.1', () => process.send!({ listening: (server.address() as { port: number }).port }))
}

process.on('message', (message: ProxyOrder | 'counts') => {
  if (message !== 'counts') return serve(message)
  process.send!({ counts })
  counts = { ...NONE }
})
process.on('disconnect', () => process.exit(0))
