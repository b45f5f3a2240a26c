import { DaybookError } from '../errors.js'
import type { Logger } from '../util/log.js'
import type { ReadBackend } from './backend.js'
import { BandwidthLimit } from './bandwidth.js'
import { ConnectionLimit } from './connection-limit.js'
import { LocalBackend } from './local.js'
import type { Location } from './location.js'
import { DEFAULT_OPTIONS, type BackendOptions } from './options.js'
import { RetryBackend } from './retry.js'

/**
 * The backend of a location, with retries and limits around it; nothing is read yet. What a kind of remote needs is loaded only when it is opened:
 * a local mount knows nothing of it.
 * @throws DaybookError ERR_USAGE, ERR_UNSUPPORTED
 */
export async function openBackend(location: Location, options: BackendOptions = DEFAULT_OPTIONS, log?: Logger): Promise<ReadBackend> {
  const { downloadKibPerSecond, timeoutMs } = options
  const backend = location.scheme === 'local' ? new LocalBackend(location.target)
    // Inside, a request waits for its turn anew with each try; outside, a line that is slow on purpose is not taken for a silent one.
    : new RetryBackend(new ConnectionLimit(await openRemote(location, options)), { timeoutMs: timeoutMs || Infinity, log })
  return downloadKibPerSecond > 0 ? new BandwidthLimit(backend, downloadKibPerSecond) : backend
}

async function openRemote(location: Location, options: BackendOptions): Promise<ReadBackend> {
  switch (location.scheme) {
    case 'rest': return new (await import('./rest.js')).RestBackend(location, options)
    case 's3': return new (await import('./s3.js')).S3Backend(location, options)
    case 'sftp': return new (await import('./sftp.js')).SftpBackend(location, options)
    default: throw new DaybookError('ERR_UNSUPPORTED', `${location.scheme} repositories cannot be opened: ${location.display}`, 'those that can: a folder, sftp:, s3:, rest:; what rclone reaches can be mounted with it, or served with `rclone serve restic`')
  }
}
