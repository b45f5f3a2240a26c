import { AccessError, DaybookError, NotFoundError, RefusedError } from '../errors.js'
import { connectionError, statusError } from './http/errors.js'
import type { S3Location } from './s3-location.js'

/** What the SDK throws, as far as it is looked at. */
interface ServiceError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number }
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> }
  readonly Region?: string
}

const KEYS_HINT = 'the keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from a profile (AWS_PROFILE) in ~/.aws/credentials (AWS_SHARED_CREDENTIALS_FILE)'

/** @param file what was asked for; null: a list */
export function s3Error(location: string, { bucket, region }: S3Location, file: string | null, error: unknown): DaybookError {
  if (error instanceof DaybookError) return error
  const cause = error as ServiceError
  const { name } = cause
  const status = cause.$metadata?.httpStatusCode
  if (name.startsWith('CredentialsProvider') || name === 'ProviderError') return new AccessError(location, `no keys for it: ${KEYS_HINT}`, { cause })
  if (status === undefined) return connectionError(location, cause)
  if (name === 'NoSuchBucket') return new NotFoundError(`bucket ${bucket}`, { cause })
  if (status === 404) return new NotFoundError(file ?? location, { cause })
  if (name === 'RequestTimeTooSkewed') return new RefusedError(`${location} finds the time wrong`, 'set the clock of this machine', { cause })
  if (name === 'InvalidAccessKeyId' || name === 'SignatureDoesNotMatch') return new AccessError(location, `the access key or its secret is wrong (${name}); ${KEYS_HINT}`, { cause })
  if (name === 'PermanentRedirect' || name === 'AuthorizationHeaderMalformed' || status === 301) {
    return new RefusedError(`${location} is not in region ${region}`, `name its region: -o s3.region=${cause.Region ?? 'REGION'}`, { cause })
  }
  if (status === 401 || status === 403) return new AccessError(file === null ? location : `${file} at ${location}`, `the store says ${name}: this key may not read there`, { cause })
  return statusError(location, status, file, name)
}

/** The length of a file, from the answer to a range behind its end; null if it is not said. */
export function lengthBehindRange(error: unknown): number | null {
  const total = /\/(\d+)$/.exec((error as ServiceError).$response?.headers?.['content-range'] ?? '')?.[1]
  return total === undefined ? null : Number(total)
}

export function isRangeError(error: unknown): boolean { return (error as ServiceError).$metadata?.httpStatusCode === 416 }
