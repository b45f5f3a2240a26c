import ssh2 from 'ssh2'
import type { Client, ConnectConfig, SFTPWrapper } from 'ssh2'
import { AccessError, DaybookError, RefusedError } from '../../errors.js'
import { CommandStream } from './command-stream.js'
import { HostKeyCheck } from './host-key.js'
import { identities } from './keys.js'
import type { SshSettings } from './settings.js'

/** Between two signs of life asked of a server that says nothing; after three without an answer the connection is given up. */
const KEEPALIVE_MS = 15_000
const CONNECT_MS = 30_000

/** One SFTP session over one SSH connection. */
export class SshConnection {
  /** requests under way */
  running = 0
  closed = false
  /** who waits for an answer. No promise for the end of the connection: whoever raced against it would be remembered until then. */
  readonly #waiting = new Set<(error: Error) => void>()

  private constructor(readonly client: Client, readonly sftp: SFTPWrapper, readonly location: string) {
    const end = (cause?: Error) => {
      this.closed = true
      const lost = this.#lost(cause)
      for (const fail of this.#waiting) fail(lost)
      this.#waiting.clear()
    }
    client.on('close', () => end()).on('error', end)
    sftp.on('close', () => end()).on('error', end)
  }

  /** @param location for messages  @throws RefusedError (host key), AccessError (no key is accepted), ERR_UNREACHABLE */
  static async open(settings: SshSettings, location: string): Promise<SshConnection> {
    const check = new HostKeyCheck(settings)
    const { methods, tried } = identities(settings)
    const client = new ssh2.Client()
    try {
      await new Promise<void>((resolve, reject) => {
        client.once('ready', resolve).on('error', reject).once('close', () => reject(new Error('closed')))
        client.connect({
          ...target(settings), username: settings.user, readyTimeout: CONNECT_MS, keepaliveInterval: KEEPALIVE_MS, keepaliveCountMax: 3,
          algorithms: { serverHostKey: check.algorithms as ServerHostKeys }, hostVerifier: (key: Buffer) => check.accepts(key), authHandler: methods,
        })
      })
      client.setNoDelay(true) // requests are small, and each waits for an answer
      const sftp = await new Promise<SFTPWrapper>((resolve, reject) => client.sftp((error, session) => error ? reject(new NoSftp(error)) : resolve(session)))
      return new SshConnection(client, sftp, location)
    } catch (error) {
      client.on('error', () => {})
      client.destroy()
      throw check.refusal ?? translate(error as Error, location, settings, tried)
    }
  }

  /** A remote call: what the server answers, or that the connection is lost. */
  call<T>(start: (done: (error: Error | null | undefined, result: T) => void) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.closed) throw this.#lost()
      this.#waiting.add(reject)
      start((error, result) => {
        this.#waiting.delete(reject)
        if (error) reject(error)
        else resolve(result)
      })
    })
  }

  /** End it; requests under way fail. */
  destroy(): void {
    this.closed = true
    this.client.destroy()
  }

  #lost(cause?: Error): DaybookError {
    return new DaybookError('ERR_UNREACHABLE', `the connection to ${this.location} is lost`, undefined, { cause })
  }
}

type ServerHostKeys = NonNullable<NonNullable<ConnectConfig['algorithms']>['serverHostKey']>

class NoSftp extends Error {
  constructor(override readonly cause: Error) { super(cause.message) }
}

function target({ hostName, port, proxyCommand }: SshSettings): ConnectConfig {
  if (proxyCommand === null) return { host: hostName, port }
  return { sock: new CommandStream(proxyCommand) }
}

function translate(cause: Error & { level?: string, code?: string }, location: string, { hostName, port, user }: SshSettings, tried: string): DaybookError {
  const address = `${hostName}${port === 22 ? '' : ` port ${port}`}`
  if (cause instanceof DaybookError) return cause
  if (cause instanceof NoSftp) return new RefusedError(`${address} has no SFTP for ${user}: ${cause.message}`, 'the server must allow the sftp subsystem', { cause })
  if (cause.level === 'client-authentication' || cause.level === 'agent') {
    return new AccessError(`${location}: ${address} lets ${user} not in`, `tried: ${tried}. See whether ssh can: ssh ${port === 22 ? '' : `-p ${port} `}${user}@${hostName}`, { cause })
  }
  const reason = { ECONNREFUSED: 'it refuses the connection', ENOTFOUND: 'its name is not known', EAI_AGAIN: 'its name cannot be looked up now' }[cause.code ?? ''] ?? cause.code ?? cause.message
  return new DaybookError('ERR_UNREACHABLE', `cannot reach ${address} for ${location}: ${reason}`, 'is the server there, and the network?', { cause })
}
