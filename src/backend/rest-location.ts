import { DaybookError } from '../errors.js'
import type { Location } from './location.js'

export interface RestLocation {
  /** ends with a slash; holds no user and no password */
  readonly url: URL
  /** for HTTP's basic authentication; null: none */
  readonly credentials: { readonly user: string, readonly password: string } | null
}

/**
 * `rest:https://user:password@host:8000/path/`. Without a user in it, RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD count, as with restic.
 * @throws DaybookError ERR_USAGE, ERR_UNSUPPORTED
 */
export function parseRestLocation({ target, display }: Location, env: NodeJS.ProcessEnv = process.env): RestLocation {
  if (target.startsWith('http+unix:')) throw new DaybookError('ERR_UNSUPPORTED', `${display}: a REST server at a Unix socket is not supported`, 'let it listen on a port')
  if (!/^https?:\/\//i.test(target) || !URL.canParse(target)) throw new DaybookError('ERR_USAGE', `${display}: not the address of a REST server`, 'example: rest:https://user:password@host:8000/path/')
  const url = new URL(target)
  const inLocation = { user: decode(url.username), password: decode(url.password) }
  const given = url.username === '' && url.password === '' ? { user: env.RESTIC_REST_USERNAME ?? '', password: env.RESTIC_REST_PASSWORD ?? '' } : inLocation
  url.username = url.password = url.search = url.hash = ''
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  return { url, credentials: given.user === '' && given.password === '' ? null : given }
}

/** A password with a percent sign that was not escaped stands for itself. */
function decode(text: string): string {
  try { return decodeURIComponent(text) } catch { return text }
}
