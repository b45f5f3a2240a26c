import { existsSync, readFileSync } from 'node:fs'
import { createSecureContext, type SecureContext } from 'node:tls'
import { DaybookError } from '../../errors.js'
import type { TlsFiles } from '../options.js'

/** For https.Agent. */
export interface TlsSettings { readonly secureContext: SecureContext, readonly rejectUnauthorized: boolean }

/** Where distributions keep what the system trusts. Node has a list of its own, which does not know what an administrator has added here. */
const SYSTEM_CERTIFICATES = [
  '/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt', '/etc/ssl/ca-bundle.pem', '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem', '/etc/ssl/cert.pem',
]

/** @throws DaybookError ERR_USAGE: a file that cannot be read, or holds no certificate */
export function tlsSettings({ caCertificates, clientCertificate, insecure }: TlsFiles, env: NodeJS.ProcessEnv = process.env): TlsSettings {
  const system = env.SSL_CERT_FILE || SYSTEM_CERTIFICATES.find(existsSync)
  const ca = caCertificates.length > 0 ? caCertificates.map(file => readPem('--cacert', file, 'CERTIFICATE'))
    : system !== undefined && existsSync(system) ? readFileSync(system, 'utf8') : undefined
  const client = clientCertificate === null ? undefined : readPem('--tls-client-cert', clientCertificate, 'PRIVATE KEY')
  try {
    return { secureContext: createSecureContext({ ca, cert: client, key: client }), rejectUnauthorized: !insecure }
  } catch (cause) {
    const files = [...caCertificates, ...clientCertificate === null ? [] : [clientCertificate]]
    throw new DaybookError('ERR_USAGE', `cannot use the certificates in ${files.join(', ') || system}: ${(cause as Error).message}`, undefined, { cause })
  }
}

function readPem(option: string, file: string, kind: string): string {
  let text
  try {
    text = readFileSync(file, 'utf8')
  } catch (cause) {
    throw new DaybookError('ERR_USAGE', `cannot read ${file} (${(cause as NodeJS.ErrnoException).code}), given with ${option}`, undefined, { cause })
  }
  if (!new RegExp(`-----BEGIN [A-Z ]*${kind}-----`).test(text)) throw new DaybookError('ERR_USAGE', `${file}, given with ${option}, holds no ${kind.toLowerCase()} in PEM form`)
  return text
}
