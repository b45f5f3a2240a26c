import type { Logger } from '../util/log.js'
import type { Backend, ReadBackend } from './backend.js'
import { LocalBackend } from './local.js'
import type { Location } from './location.js'
import { DEFAULT_OPTIONS, type BackendOptions } from './options.js'

/**
 * The backend of a location, with retries and limits around it; nothing is read yet. What a remote or a limit needs is loaded only for one: the start
 * of a local mount does not wait for it, and its memory does not hold it.
 * @param replicas further locations of the same repository, in order of preference
 * @throws DaybookError ERR_USAGE, ERR_UNSUPPORTED
 */
export async function openBackend(location: Location, options: BackendOptions = DEFAULT_OPTIONS, log?: Logger, replicas: readonly Location[] = []): Promise<ReadBackend> {
  const backend = replicas.length === 0 && location.scheme === 'local' ? new LocalBackend(location.target) : await openFar(location, replicas, options, log)
  if (options.downloadKibPerSecond === 0) return backend
  const { BandwidthLimit } = await import('./bandwidth.js')
  // Outermost: a line that is slow on purpose is not to be taken for a silent one.
  return new BandwidthLimit(backend, options.downloadKibPerSecond)
}

/** A location to be written to, with retries around it. @throws DaybookError ERR_USAGE, ERR_UNSUPPORTED */
export async function openWritable(location: Location, options: BackendOptions = DEFAULT_OPTIONS, log?: Logger): Promise<Backend> {
  if (location.scheme === 'local') return new LocalBackend(location.target)
  const { openWritableRemote } = await import('./open-remote.js')
  return openWritableRemote(location, options, log)
}

async function openFar(location: Location, replicas: readonly Location[], options: BackendOptions, log?: Logger): Promise<ReadBackend> {
  const { openRemote, openReplicas } = await import('./open-remote.js')
  return replicas.length === 0 ? openRemote(location, options, log) : openReplicas([location, ...replicas], options, log)
}
