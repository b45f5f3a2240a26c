import { DaybookError } from '../errors.js'
import type { Logger } from '../util/log.js'
import type { Backend, ReadBackend } from './backend.js'
import { ConnectionLimit } from './connection-limit.js'
import { LocalBackend } from './local.js'
import type { Location } from './location.js'
import type { BackendOptions } from './options.js'
import { ReplicaBackend } from './replicas.js'
import { RetryBackend } from './retry.js'
import { WritableConnectionLimit, WritableRetry } from './writable.js'

/** A backend that may fail for a while, and what helps against that. @throws DaybookError ERR_USAGE, ERR_UNSUPPORTED */
export async function openRemote(location: Location, options: BackendOptions, log?: Logger): Promise<ReadBackend> {
  // The limit inside: with each try, a request waits for its turn anew.
  return new RetryBackend(new ConnectionLimit(await backendOf(location, options)), { timeoutMs: options.timeoutMs || Infinity, log })
}

/** The same, to be written to. @throws DaybookError ERR_USAGE, ERR_UNSUPPORTED */
export async function openWritableRemote(location: Location, options: BackendOptions, log?: Logger): Promise<Backend> {
  return new WritableRetry(new WritableConnectionLimit(await backendOf(location, options)), { timeoutMs: options.timeoutMs || Infinity, log })
}

/** A repository that has several locations, the preferred one first. Who retries is around them all: as long as one answers, nobody waits for another. */
export async function openReplicas(locations: readonly Location[], options: BackendOptions, log?: Logger): Promise<ReadBackend> {
  const backends: ReadBackend[] = []
  for (const location of locations) backends.push(location.scheme === 'local' ? new LocalBackend(location.target) : new ConnectionLimit(await backendOf(location, options)))
  return new RetryBackend(new ReplicaBackend(backends, { log }), { timeoutMs: options.timeoutMs || Infinity, log })
}

async function backendOf(location: Location, options: BackendOptions): Promise<Backend> {
  switch (location.scheme) {
    case 'rest': return new (await import('./rest.js')).RestBackend(location, options)
    case 's3': return new (await import('./s3.js')).S3Backend(location, options)
    case 'sftp': return new (await import('./sftp.js')).SftpBackend(location, options)
    default: throw new DaybookError('ERR_UNSUPPORTED', `${location.scheme} repositories cannot be opened: ${location.display}`, 'those that can: a folder, sftp:, s3:, rest:; what rclone reaches can be mounted with it, or served with `rclone serve restic`')
  }
}
