import { lstatSync, readlinkSync } from 'node:fs'
import { DaybookError } from '../errors.js'
import { mayHang, mountAt, type MountEntry } from './mount-table.js'
import { probe } from './probe.js'

/** Linux gives up at 40 as well. */
const MAX_SYMLINKS = 40

/**
 * realpath(3) which never waits for a dead file system: before a directory is touched, the mount table says whether something is mounted there
 * that might not answer, and that is asked with a time limit first. The last component, if something is mounted on it, is not touched at all.
 * @returns absolute path without symlinks, and what is mounted exactly there
 * @throws DaybookError ERR_USAGE: missing, in the wrong place, or behind a file system that does not answer
 */
export async function resolvePath(path: string, table: readonly MountEntry[], cwd = process.cwd()): Promise<{ path: string, mount: MountEntry | null }> {
  const rest = parts(path.startsWith('/') ? path : `${cwd}/${path}`)
  let resolved = '/'
  let links = 0
  while (rest.length > 0) {
    const name = rest.shift()!
    if (name === '..') { resolved = parentOf(resolved); continue }
    const next = resolved === '/' ? `/${name}` : `${resolved}/${name}`
    const mount = mountAt(table, next)
    if (mount !== null) {
      resolved = next
      if (rest.length > 0 && mayHang(mount)) await mustAnswer(next)
      continue
    }
    const stat = statOf(next, path)
    if (!stat.isSymbolicLink()) { resolved = next; continue }
    if (++links > MAX_SYMLINKS) throw new DaybookError('ERR_USAGE', `${path}: too many symbolic links`)
    const target = readlinkSync(next)
    if (target.startsWith('/')) resolved = '/'
    rest.unshift(...parts(target))
  }
  return { path: resolved, mount: mountAt(table, resolved) }
}

async function mustAnswer(path: string): Promise<void> {
  const liveness = await probe(path)
  if (liveness === 'alive' || liveness === 'denied') return
  throw new DaybookError('ERR_USAGE', `what is mounted at ${path} ${liveness === 'dead' ? 'has lost the process that served it' : 'does not answer'}`,
    `unmount it first: daybook unmount --force ${path}`)
}

function statOf(path: string, asked: string): ReturnType<typeof lstatSync> & object {
  try { return lstatSync(path) } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw new DaybookError('ERR_USAGE', `${asked} does not exist`, undefined, { cause: error })
    if (code === 'ENOTDIR') throw new DaybookError('ERR_USAGE', `${asked} is not a directory`, undefined, { cause: error })
    if (code === 'EACCES') throw new DaybookError('ERR_USAGE', `no permission to look at ${path}`, undefined, { cause: error })
    throw error
  }
}

/** '' and '.' are nowhere else. */
function parts(path: string): string[] { return path.split('/').filter(part => part !== '' && part !== '.') }
export function parentOf(path: string): string { return path.slice(0, path.lastIndexOf('/')) || '/' }
