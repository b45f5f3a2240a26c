import { AccessError, CorruptError, DaybookError, NotFoundError, RefusedError } from '../../errors.js'

/** OpenSSL's words for "nobody I trust vouches for this server". */
const UNTRUSTED = /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_|CERT_|CRL_|HOSTNAME_MISMATCH|INVALID_CA|ERR_TLS_CERT_ALTNAME_INVALID)/
const PASSING: Record<string, string> = {
  ECONNREFUSED: 'it refuses the connection', ECONNRESET: 'it broke off the connection', EPIPE: 'it broke off the connection', ETIMEDOUT: 'no answer',
  ENOTFOUND: 'its name is not known', EAI_AGAIN: 'its name cannot be looked up now', EHOSTUNREACH: 'there is no way to it', ENETUNREACH: 'there is no way to it',
}

/** What a connection that failed means for a caller. */
export function connectionError(location: string, cause: Error): DaybookError {
  if (cause instanceof DaybookError) return cause
  const code = String((cause as NodeJS.ErrnoException).code ?? '')
  if (UNTRUSTED.test(code)) {
    return new RefusedError(`the certificate of ${location} is not trusted: ${cause.message}`, 'name the file with the certificate that signed it: --cacert FILE (RESTIC_CACERT)', { cause })
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_')) {
    return new RefusedError(`no TLS with ${location}: ${tlsReason(cause)}`, 'if the server speaks plain HTTP, write http:// in the location; if it asks for a certificate, --tls-client-cert FILE', { cause })
  }
  return new DaybookError('ERR_UNREACHABLE', `cannot reach ${location}: ${PASSING[code] ?? (code || cause.message)}`, 'is the server there, and the network?', { cause })
}

/** What a status other than success means. @param file what was asked for; null: the repository as a whole */
export function statusError(location: string, status: number, file: string | null, detail = ''): DaybookError {
  const said = `${location} says ${status}${detail === '' ? '' : ` (${detail})`}${file === null ? '' : ` to reading ${file}`}`
  if (status === 404) return new NotFoundError(file ?? location)
  if (status === 401) return new AccessError(location, 'user and password are missing or wrong')
  if (status === 403) return new AccessError(file === null ? location : `${file} at ${location}`, 'the server forbids it to this user')
  if (status === 408 || status === 425 || status === 429 || status >= 500) return new DaybookError('ERR_UNREACHABLE', said)
  return new RefusedError(said, 'is this the address of the repository?')
}

export function truncated(file: string, end: number, wanted: number): CorruptError {
  return new CorruptError(file, `truncated: ends at byte ${end}, ${wanted} expected`)
}

export function tooLong(file: string, size: number, maxLength: number): CorruptError {
  return new CorruptError(file, `${size} bytes are too many, ${maxLength} at most`)
}

/** What a range without bytes is, of which HTTP has no notion. @param size of the file */
export function nothing(size: number, file: string, offset: number): Buffer {
  if (offset > size) throw truncated(file, size, offset)
  return Buffer.alloc(0)
}

function tlsReason({ message }: Error): string {
  return /error:[0-9A-F]+:[^:]*:[^:]*:([^:]+)/.exec(message)?.[1] ?? message
}
