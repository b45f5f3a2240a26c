import { posix } from 'node:path'
import { DaybookError } from '../errors.js'
import type { Location } from './location.js'

export interface SftpLocation {
  /** null: as ssh's configuration says */
  readonly user: string | null
  /** a name, an address, or an alias of ssh's configuration */
  readonly host: string
  readonly port: number | null
  /** relative: to where the server puts a user who logs in */
  readonly path: string
}

/**
 * `sftp:user@host:path` or `sftp://user@host:port/path`, as restic reads them: in the second form a path is absolute with two slashes.
 * @throws DaybookError ERR_USAGE
 */
export function parseSftpLocation({ target, display }: Location): SftpLocation {
  const { user, host, port, path } = target.startsWith('//') ? fromUrl(target, display) : fromScp(target, display)
  // ssh would take it for an option.
  if (host === '' || host.startsWith('-')) throw notSftp(display, 'no host')
  if (user !== null && user.startsWith('-')) throw notSftp(display, 'not a user')
  if (port !== null && (port < 1 || port > 65535)) throw notSftp(display, 'not a port')
  const clean = posix.normalize(path === '' ? '.' : path)
  if (clean.startsWith('~')) throw new DaybookError('ERR_USAGE', `${display}: SFTP servers do not know ~`, 'leave it out: a path without a slash in front begins in the home of the user')
  return { user, host, port, path: clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean }
}

function fromUrl(target: string, display: string): SftpLocation {
  const found = /^\/\/(?:([^/]*)@)?(\[[^\]/]+\]|[^/:@]+)(?::(\d+))?\/(.*)$/s.exec(target)
  if (found === null) throw notSftp(display, 'not user@host:port/path')
  const [, login, host, port, path] = found
  // restic has no use for a password either: ssh asks nobody when nobody is there.
  const user = login?.split(':')[0]
  return { user: user ? decode(user) : null, host: decode(bare(host)), port: port === undefined ? null : Number(port), path: decode(path) }
}

function fromScp(target: string, display: string): SftpLocation {
  const found = /^(?:([^:]*)@)?(\[[^\]/]+\]|[^:@/]+):(.*)$/s.exec(target)
  if (found === null) throw notSftp(display, 'not user@host:path')
  const [, user, host, path] = found
  return { user: user || null, host: bare(host), port: null, path }
}

function bare(host: string): string { return host.startsWith('[') ? host.slice(1, -1) : host }

function decode(text: string): string {
  try { return decodeURIComponent(text) } catch { return text }
}

function notSftp(display: string, reason: string): DaybookError {
  return new DaybookError('ERR_USAGE', `${display}: ${reason}`, 'examples: sftp:user@host:/srv/restic, sftp://user@host:2222//srv/restic, sftp:alias:restic')
}
