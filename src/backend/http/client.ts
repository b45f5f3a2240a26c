import * as http from 'node:http'
import * as https from 'node:https'
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net'
import type { TlsFiles } from '../options.js'
import { tlsSettings } from './tls.js'

/** Longer than the seconds after which most servers close a connection nobody uses; ours then goes as well. */
const IDLE_CONNECTION_MS = 15_000

export interface Agents { readonly http: http.Agent, readonly https: https.Agent }

/** Connections that are kept and used again. What of TLS there is to read is read here, once. */
export function makeAgents(protocol: string, connections: number, tls: TlsFiles): Agents {
  const options = { keepAlive: true, maxSockets: connections, maxFreeSockets: connections, timeout: IDLE_CONNECTION_MS }
  // restic reads the files even where they are of no use; a location that does not encrypt should not cost the time.
  return { http: new ReadingAgent(options), https: new https.Agent({ ...options, ...protocol === 'https:' ? tlsSettings(tls) : {} }) }
}

/** What Node reads from a socket at once. */
const SOCKET_BYTES = 64 << 10

/**
 * Connections that read into memory of their own, again and again. The parser copies what is the body's out of it; without this, each 64 KiB that arrive are allocated
 * twice, and garbage twice.
 */
class ReadingAgent extends http.Agent {
  override createConnection(options: http.ClientRequestArgs): Socket {
    const socket: Socket = connect({
      ...options as TcpNetConnectOpts,
      onread: {
        buffer: Buffer.allocUnsafeSlow(SOCKET_BYTES),
        callback: (length, memory) => {
          socket.emit('data', (memory as Buffer).subarray(0, length))
          return true
        },
      },
    })
    return socket
  }
}

/** What is sent with a request. `progress` is called whenever the connection has taken some of it. */
export interface HttpBody { readonly bytes: Buffer, readonly progress: () => void }

/** Handed to the connection at once: enough to keep it busy, little enough to see that it takes it. */
const BODY_PIECE = 256 << 10

/** Requests to one server. */
export class HttpClient {
  readonly #url: URL
  readonly #agents: Agents
  readonly #headers: http.OutgoingHttpHeaders

  /** @param url user and password in it are not sent; that is what `headers` are for */
  constructor(url: URL, agents: Agents, headers: http.OutgoingHttpHeaders) {
    this.#url = url
    this.#agents = agents
    this.#headers = headers
  }

  /** Rejects as Node does. The answer's body has to be read or destroyed; so does the signal. @param path encoded */
  send(method: 'GET' | 'HEAD' | 'POST' | 'DELETE', path: string, headers: http.OutgoingHttpHeaders, signal: AbortSignal, body?: HttpBody): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const { protocol, hostname, port } = this.#url
      const secure = protocol === 'https:'
      const options = {
        method, path, signal, agent: secure ? this.#agents.https : this.#agents.http, port,
        hostname: hostname.startsWith('[') ? hostname.slice(1, -1) : hostname, headers: { ...this.#headers, ...headers, ...body && { 'content-length': body.bytes.length } },
      }
      const request = (secure ? https : http).request(options)
      let answered = false
      request.once('response', response => {
        answered = true
        response.on('error', () => {}) // whoever reads it has a listener as well
        resolve(response)
      })
      request.on('error', (error: NodeJS.ErrnoException) => {
        // The server closed a kept connection in the moment it was used again: that says nothing about the request, and there are only so many of them.
        if (!answered && request.reusedSocket && error.code === 'ECONNRESET' && !signal.aborted) resolve(this.send(method, path, headers, signal, body))
        else reject(error)
      })
      if (body === undefined) request.end()
      else sendBody(request, body)
    })
  }

  close(): void {
    this.#agents.http.destroy()
    this.#agents.https.destroy()
  }
}

function sendBody(request: http.ClientRequest, { bytes, progress }: HttpBody): void {
  let at = 0
  const next = (): void => {
    while (at < bytes.length) {
      const piece = bytes.subarray(at, at += BODY_PIECE)
      progress()
      if (request.write(piece)) continue
      request.once('drain', next)
      return
    }
    request.end()
  }
  next()
}
