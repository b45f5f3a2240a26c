import { DaybookError } from '../errors.js'

/** How a repository is reached, beside its location. Plain values: they go to a mount process through a pipe. */
export interface BackendOptions {
  /** what restic takes with -o, checked by parseExtended() */
  readonly extended: Extended
  /** a remote from which nothing has come for that long is given up; 0: never. No Infinity, which JSON does not know. */
  readonly timeoutMs: number
  /** 0: no limit */
  readonly downloadKibPerSecond: number
  /** 0: no limit. For what is written; reading sends next to nothing. */
  readonly uploadKibPerSecond: number
  readonly tls: TlsFiles
}

export interface TlsFiles {
  /** PEM files, absolute paths; certificates signed by these and no others are trusted. Empty: those the system trusts. */
  readonly caCertificates: readonly string[]
  /** PEM file with certificate and key, absolute path */
  readonly clientCertificate: string | null
  /** trust everybody */
  readonly insecure: boolean
}

/**
 * restic opens 5. Over 20 ms, the 1100 short ranges of a copy of 11,000 small files took 7.3 s with as many, and 4.0 s with 12. Of ssh fewer: a server refuses
 * the eleventh that has not logged in yet (MaxStartups), and one connection takes several requests.
 */
const DEFAULT_CONNECTIONS = { 'rest.connections': 12, 's3.connections': 12, 'sftp.connections': 5 }

export const DEFAULT_OPTIONS: BackendOptions = {
  extended: {}, timeoutMs: 60_000, downloadKibPerSecond: 0, uploadKibPerSecond: 0,
  tls: { caCertificates: [], clientCertificate: null, insecure: false },
}

export const EXTENDED_KEYS = ['rest.connections', 's3.connections', 's3.region', 's3.bucket-lookup', 'sftp.connections', 'sftp.args'] as const
export type ExtendedKey = typeof EXTENDED_KEYS[number]
export type Extended = Readonly<Partial<Record<ExtendedKey, string>>>

/** -o key=value, each as given. Keys of other kinds of locations than the one that is opened do no harm, as with restic. @throws DaybookError ERR_USAGE */
export function parseExtended(given: readonly string[]): Extended {
  const extended: Partial<Record<ExtendedKey, string>> = {}
  for (const text of given) {
    const equals = text.indexOf('=')
    if (equals <= 0) throw new DaybookError('ERR_USAGE', `-o ${text}: not an option`, 'write it as -o key=value')
    const name = text.slice(0, equals).trim().toLowerCase()
    const key = EXTENDED_KEYS.find(known => known === name)
    if (key === undefined) throw unknownKey(name)
    const value = text.slice(equals + 1).trim()
    if (extended[key] !== undefined && extended[key] !== value) throw new DaybookError('ERR_USAGE', `-o ${key} is given twice`)
    extended[key] = value
  }
  return extended
}

function unknownKey(name: string): DaybookError {
  if (name === 'sftp.command') return new DaybookError('ERR_UNSUPPORTED', '-o sftp.command is not supported', 'give ssh\'s own options with -o sftp.args=\'...\', or a ProxyCommand in ~/.ssh/config')
  return new DaybookError('ERR_USAGE', `-o ${name}: there is no such option`, `those there are: ${EXTENDED_KEYS.join(', ')}`)
}

/** How many requests at once. @throws DaybookError ERR_USAGE */
export function connectionsOf(extended: Extended, key: keyof typeof DEFAULT_CONNECTIONS): number {
  const text = extended[key]
  if (text === undefined) return DEFAULT_CONNECTIONS[key]
  const connections = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (connections < 1) throw new DaybookError('ERR_USAGE', `-o ${key}=${text}: not a number of connections`, 'at least 1')
  return connections
}
