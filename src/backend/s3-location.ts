import { posix } from 'node:path'
import { DaybookError } from '../errors.js'
import type { Location } from './location.js'
import type { Extended } from './options.js'

export interface S3Location {
  /** null: Amazon's own, which follows from the region */
  readonly endpoint: URL | null
  readonly region: string
  readonly bucket: string
  /** of all names, without slashes around it; '' for none */
  readonly prefix: string
  /** https://host/bucket/name instead of https://bucket.host/name */
  readonly pathStyle: boolean
}

/** What stores that know no regions are content with, and where Amazon's buckets are if nobody says otherwise. */
const DEFAULT_REGION = 'us-east-1'
const LOOKUPS = ['auto', 'path', 'dns'] as const

/**
 * `s3:https://host:port/bucket/prefix`, `s3:host/bucket/prefix` (or `s3://host/...`), with a region of Amazon's in the place of a host as well.
 * @throws DaybookError ERR_USAGE
 */
export function parseS3Location({ target, display }: Location, extended: Extended = {}, env: NodeJS.ProcessEnv = process.env): S3Location {
  const text = /^https?:\/\//i.test(target) ? target : `https://${target.replace(/^\/\//, '')}`
  const found = /^(https?):\/\/([^/]+)\/+([^/]+)(?:\/(.*))?$/is.exec(text)
  if (found === null || !URL.canParse(`${found[1]}://${found[2]}`)) throw notS3(display, 'not host/bucket/prefix')
  const [, protocol, host, bucket, rest = ''] = found
  const endpoint = new URL(`${protocol}://${host}`)
  if (endpoint.username !== '' || endpoint.password !== '') {
    throw new DaybookError('ERR_USAGE', `${display}: keys do not belong into the location`, 'give them with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws/credentials')
  }
  const amazon = amazonRegion(host.toLowerCase())
  const region = extended['s3.region'] || env.AWS_DEFAULT_REGION || env.AWS_REGION || amazon || DEFAULT_REGION
  const lookup = lookupOf(extended['s3.bucket-lookup'])
  const prefix = rest === '' ? '' : posix.normalize(rest).replace(/^\/+|\/+$/g, '')
  return {
    endpoint: amazon === null ? endpoint : null, region, bucket, prefix: prefix === '.' ? '' : prefix,
    pathStyle: lookup === 'path' || lookup === 'auto' && amazon === null,
  }
}

/** Is it Amazon's? Its region if it says so, '' if it does not, null for anybody else's. */
function amazonRegion(host: string): string | null {
  if (/^[a-z]{2}(-[a-z]+)+-\d$/.test(host)) return host
  const found = /^s3(?:[.-]([a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?$/.exec(host)
  return found === null ? null : found[1] ?? ''
}

function lookupOf(text = 'auto'): typeof LOOKUPS[number] {
  const lookup = LOOKUPS.find(known => known === text.toLowerCase())
  if (lookup === undefined) throw new DaybookError('ERR_USAGE', `-o s3.bucket-lookup=${text}: there is no such style`, `those there are: ${LOOKUPS.join(', ')}`)
  return lookup
}

function notS3(display: string, reason: string): DaybookError {
  return new DaybookError('ERR_USAGE', `${display}: ${reason}`, 'examples: s3:https://host:port/bucket/folder, s3:s3.amazonaws.com/bucket/folder')
}
