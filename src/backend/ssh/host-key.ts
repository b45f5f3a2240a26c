import { appendFileSync } from 'node:fs'
import { RefusedError } from '../../errors.js'
import { fingerprint, knownKeys, type KnownKey } from './known-hosts.js'
import type { SshSettings } from './settings.js'

/** Signatures that go with each type of key, the best first. */
const ALGORITHMS: Record<string, readonly string[]> = {
  'ssh-ed25519': ['ssh-ed25519'], 'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'], 'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'], 'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
}

/** Is this the server that was meant? Its key must be among the known ones, as with ssh. */
export class HostKeyCheck {
  readonly #settings: SshSettings
  readonly #known: readonly KnownKey[]
  /** why the key was refused */
  refusal: RefusedError | null = null

  /** @throws DaybookError ERR_USAGE: a file of known hosts cannot be read */
  constructor(settings: SshSettings) {
    this.#settings = settings
    this.#known = knownKeys(settings.knownHostsFiles, settings.knownAs)
  }

  /** Those of keys that are known come first: a server has several, and shows the first that both sides can use. */
  get algorithms(): string[] {
    const known = this.#known.filter(({ revoked }) => !revoked).flatMap(({ type }) => ALGORITHMS[type] ?? [])
    return [...new Set([...known, ...Object.values(ALGORITHMS).flat()])]
  }

  accepts(blob: Buffer): boolean {
    const same = this.#known.filter(known => known.blob.equals(blob))
    if (same.length > 0 && same.every(({ revoked }) => !revoked)) return true
    this.refusal = this.#refuse(blob, same.find(({ revoked }) => revoked))
    return this.refusal === null
  }

  #refuse(blob: Buffer, revoked: KnownKey | undefined): RefusedError | null {
    const { knownAs, hostName, port, user, knownHostsFiles: [file], unknownHosts } = this.#settings
    const shown = `${typeOf(blob)} ${fingerprint(blob)}`
    if (revoked !== undefined) return new RefusedError(`the host key of ${knownAs} (${shown}) is revoked in ${revoked.file}, line ${revoked.line}`)
    const other = this.#known.find(known => !known.revoked)
    if (other !== undefined) {
      return new RefusedError(`the host key of ${knownAs} is ${shown}, not the one in ${other.file}, line ${other.line}`,
        `somebody may be in between; if the server was set up anew, forget its old key: ssh-keygen -f ${other.file} -R '${knownAs}'`)
    }
    if (unknownHosts === 'refuse') {
      return new RefusedError(`the host key of ${knownAs} (${shown}) is not known${file === undefined ? '' : `: it is not in ${file}`}`,
        `connect once by hand, as this user, and compare the key: ssh ${port === 22 ? '' : `-p ${port} `}${user}@${hostName}`)
    }
    try {
      if (file !== undefined) appendFileSync(file, `${knownAs} ${typeOf(blob)} ${blob.toString('base64')}\n`, { mode: 0o600 })
    } catch {
      // ssh goes on as well when it cannot remember a host
    }
    return null
  }
}

/** A key begins with its type, and the length of that. */
function typeOf(blob: Buffer): string {
  return blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1')
}
