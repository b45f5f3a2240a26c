import { createHash, timingSafeEqual } from 'node:crypto'
import type { ReadBackend } from '../backend/backend.js'
import { createKeyFile } from '../crypto/create-key.js'
import { openMasterKey } from '../crypto/master-key.js'
import { CorruptError, DaybookError, NotFoundError } from '../errors.js'
import { decodeKeyFile, encodeKeyFile, type KeyFile } from '../format/key-file.js'
import { MAX_FILE_LENGTH } from '../format/limits.js'
import { formatTimestamp } from '../format/time.js'
import { forEachLimited } from '../util/concurrency.js'
import type { WriteAccess } from './save-unpacked.js'

export interface FoundKey extends Pick<KeyFile, 'hostname' | 'username' | 'created'> { readonly name: string }

const KEYS_AT_ONCE = 8

/** Oldest first. What cannot be read is reported and left out. */
export async function listKeys(backend: ReadBackend, onDamaged: (error: DaybookError) => void): Promise<FoundKey[]> {
  const found: FoundKey[] = []
  await forEachLimited(await backend.list('keys'), KEYS_AT_ONCE, async ({ name }) => {
    try {
      const { hostname, username, created } = decodeKeyFile(name, await backend.readAll({ type: 'keys', name }, MAX_FILE_LENGTH.keys))
      found.push({ name, hostname, username, created })
    } catch (error) {
      if (error instanceof CorruptError) onDamaged(error)
      else if (!(error instanceof NotFoundError)) throw error
    }
  })
  return found.sort((a, b) => Date.parse(a.created) - Date.parse(b.created) || (a.name < b.name ? -1 : 1))
}

/** Let one more password open the repository. It is opened with it, from what was stored, before this counts as done. @returns name of the key file */
export async function addKey({ backend, keys }: WriteAccess, password: Uint8Array, about: { readonly hostname: string, readonly username: string }): Promise<string> {
  const bytes = encodeKeyFile(await createKeyFile(Buffer.from(keys), password, { ...about, created: formatTimestamp(Date.now()) }))
  const name = createHash('sha256').update(bytes).digest('hex')
  const handle = { type: 'keys', name } as const
  await backend.save(handle, bytes)
  try {
    const opened = await openMasterKey(name, decodeKeyFile(name, await backend.readAll(handle, MAX_FILE_LENGTH.keys)), password)
    if (opened === null || !timingSafeEqual(opened, keys)) throw new CorruptError(`key ${name}`, 'what was stored does not open the repository')
    opened.fill(0)
  } catch (error) {
    await backend.remove(handle).catch(() => {})
    throw error
  }
  return name
}

/** The one key file whose name begins so. @throws DaybookError ERR_USAGE */
export async function findKey(backend: ReadBackend, beginning: string): Promise<string> {
  const names = (await backend.list('keys')).map(({ name }) => name).filter(name => beginning !== '' && name.startsWith(beginning))
  if (names.length === 1) return names[0]
  throw new DaybookError('ERR_USAGE', names.length === 0 ? `no key ${beginning}` : `several keys begin with ${beginning}`, 'see which there are with: daybook key list')
}
