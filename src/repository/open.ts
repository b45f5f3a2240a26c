import type { ReadBackend } from '../backend/backend.js'
import { decryptFile } from '../crypto/decrypt.js'
import { CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { decodeConfig, type RepositoryConfig } from '../format/config.js'
import { MAX_FILE_LENGTH } from '../format/limits.js'
import { raceAbort } from '../util/abort.js'
import { searchKey } from './keys.js'
import type { KeySearchOptions } from './keys.js'
import { Prefetch } from './prefetch.js'
import { Repository } from './repository.js'

export interface OpenOptions extends KeySearchOptions {
  /** begun earlier (before a password was asked for); else one is begun here */
  prefetch?: Prefetch
}

/**
 * Open a repository for reading. Key derivation takes half a second; the lists and small files are read beside it, and the first
 * synchronisation of the index finds them in memory. The password is not changed.
 * @throws DaybookError ERR_NO_REPOSITORY (nothing there), ERR_WRONG_PASSWORD, ERR_UNSUPPORTED (unknown format), ERR_UNREACHABLE, ERR_ABORTED;
 *   CorruptError (config damaged, or every key file)
 */
export async function openRepository(backend: ReadBackend, password: Buffer, options: OpenOptions = {}): Promise<Repository> {
  const { signal } = options
  const prefetch = options.prefetch ?? new Prefetch(backend, { signal })
  return raceAbort(open(backend, password, prefetch, options), signal)
}

async function open(backend: ReadBackend, password: Buffer, prefetch: Prefetch, options: OpenOptions): Promise<Repository> {
  const stored = await prefetch.config.catch(error => { throw configError(backend, error) })
  const { keys, keyName } = await searchKey(await prefetch.keyFiles, password, options)
  try {
    const config = await soundConfig(backend, keys, stored, options)
    backend.replicas?.check(async other => other.equals(stored) || (await decode(keys, other).catch(() => null))?.id === config.id)
    return new Repository(backend, config, keys, keyName, prefetch)
  } catch (error) {
    keys.fill(0)
    throw error
  }
}

/** From each further source, where it proves damaged. */
async function soundConfig(backend: ReadBackend, keys: Buffer, stored: Buffer, { signal }: OpenOptions): Promise<RepositoryConfig> {
  for (let again = 1; ; again++) {
    try {
      return await decode(keys, stored)
    } catch (error) {
      if (!(error instanceof CorruptError) || again >= (backend.sources ?? 1)) throw error
      stored = await backend.readAll({ type: 'config', name: '' }, MAX_FILE_LENGTH.config, { signal, again }).catch(() => { throw error })
    }
  }
}

async function decode(keys: Buffer, stored: Buffer): Promise<RepositoryConfig> {
  return decodeConfig(await decryptFile('config', keys, stored, { zstd: false, maxLength: MAX_FILE_LENGTH.config }))
}

function configError(backend: ReadBackend, cause: unknown): unknown {
  if (!(cause instanceof NotFoundError)) return cause
  return new DaybookError('ERR_NO_REPOSITORY', `there is no repository at ${backend.location}`,
    'a repository is a folder with a file "config" in it; check the location, and that the disk is mounted', { cause })
}
