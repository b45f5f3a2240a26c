import { createHash, randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import type { Backend } from '../backend/backend.js'
import { randomPolynomial } from '../chunker/polynomial.js'
import { createKeyFile, newMasterKeys } from '../crypto/create-key.js'
import { encryptFile } from '../crypto/encrypt.js'
import { DaybookError, NotFoundError } from '../errors.js'
import { encodeConfig, type RepositoryConfig } from '../format/config.js'
import { encodeKeyFile } from '../format/key-file.js'
import { formatTimestamp } from '../format/time.js'
import { username } from '../util/username.js'

export interface InitOptions {
  /** format of the new repository */
  version?: 1 | 2
  /** cut files as another repository does, so that copies between the two share what they have in common */
  polynomial?: bigint
}

/**
 * Make a new, empty repository, which this password opens. The key is written before the config: what breaks off in between is no repository yet, and can be begun anew.
 * @throws DaybookError ERR_USAGE if there is one
 */
export async function initRepository(backend: Backend, password: Uint8Array, { version = 2, polynomial = randomPolynomial() }: InitOptions = {}): Promise<RepositoryConfig> {
  await mustBeFree(backend)
  await backend.create()
  const keys = newMasterKeys()
  try {
    const config: RepositoryConfig = { version, id: randomBytes(32).toString('hex'), chunkerPolynomial: polynomial.toString(16) }
    const key = encodeKeyFile(await createKeyFile(keys, password, { hostname: hostname(), username: username(), created: formatTimestamp(Date.now()) }))
    await backend.save({ type: 'keys', name: createHash('sha256').update(key).digest('hex') }, key)
    await backend.save({ type: 'config', name: '' }, await encryptFile(keys, encodeConfig(config), null))
    return config
  } finally {
    keys.fill(0)
  }
}

async function mustBeFree(backend: Backend): Promise<void> {
  const there = await backend.stat({ type: 'config', name: '' }).then(() => 'a repository', error => {
    if (!(error instanceof NotFoundError)) throw error
    return null
  }) ?? ((await backend.list('keys')).length > 0 ? 'keys of a repository' : null)
  if (there !== null) throw new DaybookError('ERR_USAGE', `there is already ${there} at ${backend.location}`, 'choose another place; an existing repository is used as it is')
}
