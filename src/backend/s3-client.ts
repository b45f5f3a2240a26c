import { S3Client } from '@aws-sdk/client-s3'
import type { S3ClientConfig } from '@aws-sdk/client-s3'
import { NodeHttpHandler } from '@smithy/node-http-handler'
import { AccessError } from '../errors.js'
import { makeAgents } from './http/client.js'
import type { TlsFiles } from './options.js'
import type { S3Location } from './s3-location.js'

// It tells whoever runs it to use a newer Node; which one is supported is said in package.json, and tested.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true'

/** A client for one bucket. It tries once: retrying is for all backends the same. */
export function s3Client({ endpoint, region, pathStyle }: S3Location, connections: number, tls: TlsFiles, env: NodeJS.ProcessEnv = process.env): S3Client {
  const agents = makeAgents(endpoint?.protocol ?? 'https:', connections, tls)
  return new S3Client({
    ...endpoint && { endpoint: endpoint.href }, region, forcePathStyle: pathStyle, credentials: keysOf(env), followRegionRedirects: endpoint === null,
    maxAttempts: 1, requestHandler: new NodeHttpHandler({ httpAgent: agents.http, httpsAgent: agents.https }),
    // Many stores know no checksums but their own, and every byte is checked by its MAC anyway.
    requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED',
  })
}

/** Keys in the environment come first, as with restic; else what the SDK finds: profiles, ~/.aws/credentials, roles of a machine or container. */
function keysOf({ AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken }: NodeJS.ProcessEnv): S3ClientConfig['credentials'] {
  if (accessKeyId && secretAccessKey) return { accessKeyId, secretAccessKey, ...sessionToken && { sessionToken } }
  if (!accessKeyId && !secretAccessKey) return undefined
  const [given, missing] = accessKeyId ? ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'] : ['AWS_SECRET_ACCESS_KEY', 'AWS_ACCESS_KEY_ID']
  throw new AccessError('the bucket', `${given} is set, but ${missing} is not`)
}
