import { statSync } from 'node:fs'
import { join } from 'node:path'
import { parseLocation, type Location } from '../backend/location.js'
import { DaybookError } from '../errors.js'
import type { RepositoryAccess } from '../mount/options.js'
import { resolveLocation, resolvePassword, withEnvironment } from '../repository/password.js'
import { promptPassword, standardTerminal } from '../repository/prompt.js'
import { backendOptions } from './backend-options.js'
import type { GlobalOptions } from './global-options.js'

export interface CommandAccess {
  readonly access: RepositoryAccess
  /** folders in which the repository lies, as far as it is local */
  readonly localPaths: readonly string[]
  /** how often to let a person type the password before giving up */
  readonly passwordTries: number
}

/**
 * Where the repository is, as flags and environment say, and how its password will be had: not before it is needed.
 * @throws DaybookError ERR_USAGE; ERR_NO_REPOSITORY where that can be seen without a password
 */
export async function repositoryAccess(options: GlobalOptions): Promise<CommandAccess> {
  const location = parseLocation(await resolveLocation(options))
  const backend = backendOptions(options)
  const replicas = replicaLocations(options.replica, location)
  const localPaths = [location, ...replicas].filter(({ scheme }) => scheme === 'local').map(({ target }) => target)
  // With replicas, one that is not there now may come.
  if (replicas.length === 0 && localPaths.length > 0) mustHoldRepository(localPaths[0])
  const password = async (): Promise<Buffer> => await resolvePassword(options) ?? ask()
  const { passwordFile, passwordCommand, insecureNoPassword, keyHint } = withEnvironment(options, process.env)
  const given = passwordFile || passwordCommand || insecureNoPassword || process.env.RESTIC_PASSWORD
  return { access: { location, replicas, backend, password, keyHint: keyHint || null }, localPaths, passwordTries: given || !process.stdin.isTTY ? 1 : 3 }
}

/** Flags replace the variable, whose locations have white space between them. @throws DaybookError ERR_USAGE */
export function replicaLocations(given: readonly string[] | undefined, first: Location, env: NodeJS.ProcessEnv = process.env): Location[] {
  const locations = (given ?? (env.DAYBOOK_REPLICAS ?? '').split(/\s+/).filter(text => text !== '')).map(text => parseLocation(text))
  const all = [first, ...locations]
  const twice = all.find(({ scheme, target }, i) => all.findIndex(other => other.scheme === scheme && other.target === target) < i)
  if (twice !== undefined) throw new DaybookError('ERR_USAGE', `${twice.display} is given twice`, 'a replica is another location of the repository')
  return locations
}

async function ask(): Promise<Buffer> {
  const password = await promptPassword(standardTerminal(), 'enter password for repository: ')
  if (password.length > 0) return password
  throw new DaybookError('ERR_USAGE', 'the password is empty', 'give it with -p, --password-command, RESTIC_PASSWORD or on a terminal; a repository without one is opened with --insecure-no-password')
}

function mustHoldRepository(path: string): void {
  try {
    if (statSync(join(path, 'config'), { throwIfNoEntry: false }) !== undefined) return
  } catch (error) {
    if (!['ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code!)) return // opening it says better what is wrong
  }
  throw new DaybookError('ERR_NO_REPOSITORY', `there is no repository at ${path}`, 'a repository is a folder with a file "config" in it; check the location, and that the disk is mounted')
}

/** Let a person who mistyped the password try again. */
export async function withTries<T>(tries: number, attempt: () => Promise<T>): Promise<T> {
  for (let left = tries; ; left--) {
    try { return await attempt() } catch (error) {
      if (left <= 1 || !(error instanceof DaybookError) || error.code !== 'ERR_WRONG_PASSWORD') throw error
      process.stderr.write('wrong password, try again\n')
    }
  }
}
