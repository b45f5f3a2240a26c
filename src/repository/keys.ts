import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import { openMasterKey } from '../crypto/master-key.js'
import { CorruptError, DaybookError } from '../errors.js'
import { decodeKeyFile } from '../format/key-file.js'
import type { KeyFile } from '../format/key-file.js'
import { throwIfAborted } from '../util/abort.js'
import { username } from '../util/username.js'

export interface KeySearchOptions {
  signal?: AbortSignal
  /** name of a key file, or its beginning: tried first */
  keyHint?: string | null
  /** give up after that many derivations; restic tries 20 */
  maxKeys?: number
  /** a key file that cannot be used, or not trusted wholly */
  onDamaged?: (error: CorruptError) => void
}

/** What was found: 64 bytes of keys for the addon, and the file they came from. */
export interface OpenedKey { readonly keys: Buffer, readonly keyName: string }

/** @param bytes stored bytes, or why they cannot be read */
export type StoredKeyFile = { readonly name: string, readonly bytes: Buffer | Error }

interface Candidate { readonly name: string, readonly key: KeyFile, readonly sound: boolean }

// Each derivation fills tens of MiB and a core for half a second.
const DERIVATIONS_AT_ONCE = 2

/**
 * The master keys from the first key file that the password opens, likely ones first.
 *
 * A key file that cannot be understood, or whose content is not what its name says, is reported and the others are tried.
 * "Wrong password" is said only when a sound key file refuses it: a damaged one refuses the right password too.
 * @throws DaybookError ERR_WRONG_PASSWORD; CorruptError when no key file is sound; ERR_UNREACHABLE when none could be read
 */
export async function searchKey(files: readonly StoredKeyFile[], password: Uint8Array, options: KeySearchOptions = {}): Promise<OpenedKey> {
  const { signal, maxKeys = 20, onDamaged = () => {} } = options
  if (files.length === 0) throw new CorruptError('keys', 'the repository has no key files')
  const unreadable: Error[] = []
  const damaged: CorruptError[] = []
  const report = (error: CorruptError) => { damaged.push(error); onDamaged(error) }
  const candidates: Candidate[] = []
  for (const { name, bytes } of files) {
    if (bytes instanceof CorruptError) report(bytes)
    else if (bytes instanceof Error) unreadable.push(bytes)
    else addCandidate(candidates, name, bytes, report)
  }

  candidates.sort(byLikelihood(options.keyHint ?? null))
  const tried = candidates.slice(0, maxKeys)
  let useless: CorruptError | null = null
  const opened = await firstThatOpens(tried, password, signal, error => { useless = error; report(error) })
  if (opened) return opened
  // The password fitted: it is not what is wrong.
  if (useless) throw useless
  if (!tried.some(({ sound }) => sound)) {
    if (damaged.length > 0) throw damaged.length === 1 ? damaged[0] : new CorruptError('keys', `none of ${files.length} key files is sound: ${damaged[0].message}`)
    throw unreadable[0]
  }
  const left = candidates.length - tried.length
  const hints = [
    ...left > 0 ? [`${tried.length} of ${candidates.length} keys were tried; name the right one with --key-hint`] : [],
    ...damaged.length > 0 ? [`${damaged.length} key file(s) are damaged and may have been the right one`] : [],
    ...unreadable.length > 0 ? [`${unreadable.length} key file(s) could not be read: ${unreadable[0].message}`] : [],
  ]
  throw new DaybookError('ERR_WRONG_PASSWORD', 'wrong password: it opens no key of this repository', hints.join('; ') || undefined)
}

function addCandidate(candidates: Candidate[], name: string, bytes: Buffer, report: (error: CorruptError) => void): void {
  const sound = createHash('sha256').update(bytes).digest('hex') === name
  try {
    candidates.push({ name, key: decodeKeyFile(name, bytes), sound })
    // It may open all the same: most of its bytes (names, white space) take no part in the derivation.
    if (!sound) report(new CorruptError(`key ${name}`, 'content does not match the name'))
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error
    report(error)
  }
}

/** Hinted first, then sound before damaged, this user on this machine, this machine, newest. */
function byLikelihood(hint: string | null): (a: Candidate, b: Candidate) => number {
  const host = hostname()
  const user = username()
  const rank = ({ name, key, sound }: Candidate) =>
    (hint && name.startsWith(hint) ? 8 : 0) + (sound ? 4 : 0) + (key.hostname === host ? (key.username === user ? 2 : 1) : 0)
  return (a, b) => rank(b) - rank(a) || (a.key.created < b.key.created ? 1 : a.key.created > b.key.created ? -1 : 0)
}

async function firstThatOpens(candidates: Candidate[], password: Uint8Array, signal: AbortSignal | undefined,
  onUseless: (error: CorruptError) => void): Promise<OpenedKey | null> {
  let next = 0
  let opened: OpenedKey | null = null
  const lane = async (): Promise<void> => {
    while (!opened && next < candidates.length) {
      throwIfAborted(signal)
      const { name, key } = candidates[next++]
      const keys = await openMasterKey(name, key, password).catch(error => {
        if (!(error instanceof CorruptError)) throw error
        onUseless(error)
        return null
      })
      if (!keys) continue
      if (opened) keys.fill(0)
      else opened = { keys, keyName: name }
    }
  }
  const lanes = Array.from({ length: Math.min(DERIVATIONS_AT_ONCE, candidates.length) }, lane)
  // The winner does not wait for the other lane's half second; a key it opens late is zeroed there.
  return new Promise((resolve, reject) => {
    let open = lanes.length
    if (open === 0) resolve(null)
    for (const running of lanes) {
      running.then(() => { if (opened || --open === 0) resolve(opened) }, reject)
    }
  })
}
