import { resolve } from 'node:path'
import { parseExtended, type BackendOptions } from '../backend/options.js'
import { DaybookError } from '../errors.js'
import type { GlobalOptions } from './global-options.js'
import { parseSeconds } from './values.js'

/** What flags and environment say about reaching a repository. Paths become absolute: a daemon changes its directory. @throws DaybookError ERR_USAGE */
export function backendOptions(options: GlobalOptions, env: NodeJS.ProcessEnv = process.env): BackendOptions {
  const caCertificates = options.cacert ?? (env.RESTIC_CACERT ?? '').split(',').filter(file => file !== '')
  const clientCertificate = options.tlsClientCert ?? env.RESTIC_TLS_CLIENT_CERT ?? ''
  return {
    extended: parseExtended(options.option ?? []),
    timeoutMs: parseSeconds('--timeout', options.timeout ?? '60') * 1000,
    downloadKibPerSecond: parseRate('--limit-download', options.limitDownload),
    uploadKibPerSecond: parseRate('--limit-upload', options.limitUpload),
    tls: {
      caCertificates: caCertificates.map(file => resolve(file)),
      clientCertificate: clientCertificate === '' ? null : resolve(clientCertificate),
      insecure: options.insecureTls ?? false,
    },
  }
}

function parseRate(option: string, text = '0'): number {
  if (!/^\d{1,9}$/.test(text)) throw new DaybookError('ERR_USAGE', `${option} ${text}: not a rate`, 'a whole number of KiB per second; 0 for no limit')
  return Number(text)
}
