import { chmod } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { ownDirectory } from '../../util/cache-directory.js'
import type { Logger } from '../../util/log.js'
import { encodeLine, MAX_REQUEST_BYTES, parseRequest } from './protocol.js'
import { removeStaleSockets, runtimeDirectory, socketPath } from './runtime-directory.js'

/** Clients at once; more are hung up on. */
const MAX_CLIENTS = 16
/** From the first byte to the last, in both directions: who takes longer is hung up on. */
const PATIENCE_MS = 5000
/** So old an answer is still good: whoever asks all the time costs no more than one who does not. */
const FRESH_MS = 250

export interface StatusServerOptions {
  /** by what is asked for: what is answered, as fields of the message */
  readonly answers: Readonly<Record<string, () => Promise<object>>>
  readonly log: Logger
  readonly directory?: string
  /** for tests: see the constants */
  readonly patienceMs?: number
  readonly freshMs?: number
}

/**
 * Answers at a local socket what its process is asked about itself. Only its own user (and root) can reach it. Of a client, a line of bounded length is read; all get
 * the same bytes of an answer; one that stalls is hung up on: none can block the process, or make it grow.
 */
export class StatusServer {
  readonly #options: StatusServerOptions
  readonly #clients = new Set<Socket>()
  readonly #made = new Map<string, { readonly atMs: number, readonly line: Promise<Buffer> }>()
  #server: Server | null = null

  constructor(options: StatusServerOptions) { this.#options = options }

  /** Never rejects: a process that cannot be asked works all the same. @returns the socket's path, or null */
  async listen(): Promise<string | null> {
    const { log, directory = runtimeDirectory() } = this.#options
    const server = createServer({ allowHalfOpen: true }, socket => this.#serve(socket))
    server.maxConnections = MAX_CLIENTS
    try {
      ownDirectory(directory)
      const path = socketPath(directory)
      // The directory lets nobody else in meanwhile.
      await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve))
      server.removeAllListeners('error').on('error', error => log.debug('status socket', { error })).unref()
      this.#server = server
      await chmod(path, 0o600)
      void removeStaleSockets(directory)
      return path
    } catch (error) {
      log.info('daybook status will not know of this mount', { directory, reason: (error as NodeJS.ErrnoException).code ?? (error as Error).message })
      return null
    }
  }

  /** Also removes the socket. */
  close(): void {
    this.#server?.close()
    this.#server = null
    for (const socket of this.#clients) socket.destroy()
  }

  #serve(socket: Socket): void {
    const chunks: Buffer[] = []
    let length = 0
    this.#clients.add(socket)
    const timer = setTimeout(() => socket.destroy(), this.#options.patienceMs ?? PATIENCE_MS).unref()
    socket.on('error', () => { /* it went away */ }).on('close', () => {
      clearTimeout(timer)
      this.#clients.delete(socket)
    })
    socket.on('data', chunk => {
      const end = chunk.indexOf('\n')
      length += chunk.length
      chunks.push(chunk)
      if (end < 0 && length <= MAX_REQUEST_BYTES) return
      // Whatever else comes is not read.
      socket.removeAllListeners('data').removeAllListeners('end').pause()
      const [line] = length > MAX_REQUEST_BYTES ? [''] : Buffer.concat(chunks).toString().split('\n')
      void this.#answer(line).then(answer => { if (!socket.destroyed) socket.end(answer, () => socket.destroy()) })
    }).on('end', () => socket.end())
  }

  /** Never rejects. */
  #answer(line: string): Promise<Buffer> {
    const request = parseRequest(line)
    if ('error' in request) return Promise.resolve(encodeLine(request))
    const { ask } = request
    const { answers, log, freshMs = FRESH_MS } = this.#options
    if (!Object.hasOwn(answers, ask)) return Promise.resolve(encodeLine({ error: 'that is not known here' }))
    const made = this.#made.get(ask)
    if (made !== undefined && performance.now() - made.atMs < freshMs) return made.line
    const answer = answers[ask]().then(encodeLine, (error: unknown) => {
      log.error('cannot tell the status', { error })
      return encodeLine({ error: 'it cannot be told' })
    })
    this.#made.set(ask, { atMs: performance.now(), line: answer })
    return answer
  }
}
