import { resolve } from 'node:path'
import { DaybookError } from '../errors.js'

/** What restic puts before the first colon of a location. */
export const SCHEMES = ['local', 's3', 'sftp', 'rest', 'b2', 'azure', 'gs', 'swift', 'rclone'] as const
export type Scheme = typeof SCHEMES[number]

export interface Location {
  readonly scheme: Scheme
  /** what follows the scheme; of local repositories the absolute path. May hold a password. */
  readonly target: string
  /** for messages: passwords replaced by *** */
  readonly display: string
}

/**
 * Where a repository is, written as for restic: a path, `local:path`, or `scheme:...`.
 * @throws DaybookError ERR_USAGE. Its message holds no password.
 */
export function parseLocation(text: string): Location {
  const colon = text.indexOf(':')
  const scheme = SCHEMES.find(known => known === text.slice(0, Math.max(colon, 0)))
  if (scheme === undefined) {
    // `host:path` may be a forgotten `sftp:` as well as a folder with a colon in its name: ask rather than guess, as restic does.
    if (colon >= 0 && !/^(\/|\.\.\/|\.\/)/.test(text)) {
      throw new DaybookError('ERR_USAGE', `unknown kind of repository location: ${stripPassword(text)}`, 'if it is a folder on this machine, write local: before it')
    }
    return local(text)
  }
  if (scheme === 'local') return local(text.slice(colon + 1))
  return { scheme, target: text.slice(colon + 1), display: stripPassword(text) }
}

/** A location as it may be shown and logged. What is no location at all is cleaned of anything that looks like a password in a URL. */
export function stripPassword(text: string): string {
  // As far as the last @ before the path: a password may hold one that was not escaped.
  return text.replace(/(\/\/[^/:@]*):[^/]*@/g, '$1:***@')
}

function local(path: string): Location {
  if (path === '') throw new DaybookError('ERR_USAGE', 'the repository location is empty', 'give it with -r or RESTIC_REPOSITORY')
  // Absolute from the start: a daemon changes its directory.
  const target = resolve(path)
  return { scheme: 'local', target, display: target }
}
