import { accessSync, constants, readdirSync, statSync, type BigIntStats } from 'node:fs'
import { DaybookError } from '../errors.js'
import type { Logger } from '../util/log.js'
import { isDaybook, isFuse, readMountTable } from './mount-table.js'
import { probe } from './probe.js'
import { parentOf, resolvePath } from './resolve-path.js'
import { unmountEntry } from './unmount.js'

/** A directory that the mount reads or writes: it must lie neither below the mountpoint nor around it. */
export interface OwnPath {
  /** for messages: 'the repository' */
  readonly what: string
  readonly path: string
  /** may the mountpoint lie inside? */
  readonly mayContainMountpoint?: boolean
}

/**
 * Everything that can be wrong with a mountpoint, said before anybody is asked for a password. The remains of a mount whose process died
 * are cleared away.
 * @returns its absolute path, without symlinks
 * @throws DaybookError ERR_USAGE
 */
export async function prepareMountpoint(asked: string, own: readonly OwnPath[], log: Logger): Promise<string> {
  if (asked === '') throw new DaybookError('ERR_USAGE', 'the mountpoint has an empty name')
  const table = readMountTable()
  const { path, mount } = await resolvePath(asked, table).catch(error => { throw withHint(error, `make it first: mkdir -p ${asked}`) })
  if (mount !== null) {
    const liveness = isFuse(mount) ? await probe(path) : 'alive'
    if (liveness === 'hung') {
      throw new DaybookError('ERR_USAGE', `something is mounted at ${path} that does not answer`, `unmount it first: daybook unmount --force ${path}`)
    }
    if (liveness === 'dead') {
      await unmountEntry(mount, path, true)
      log.info('cleared away a mount whose process had died', { mountpoint: path })
      return prepareMountpoint(path, own, log)
    }
    throw isDaybook(mount)
      ? new DaybookError('ERR_USAGE', `${path} is a daybook mount already`, `to mount it anew: daybook unmount ${path}`)
      : new DaybookError('ERR_USAGE', `something else is mounted at ${path} already (${mount.type})`)
  }
  const stat = statSync(path, { bigint: true })
  if (!stat.isDirectory()) throw new DaybookError('ERR_USAGE', `${path} is not a directory`)
  if (path === '/') throw new DaybookError('ERR_USAGE', 'the root directory cannot be a mountpoint')
  for (const one of own) mustNotOverlap(path, stat, one)
  mustBeEmpty(path)
  mustBeOurs(path)
  return path
}

function withHint(error: unknown, hint: string): unknown {
  return error instanceof DaybookError && / does not exist$/.test(error.message) ? new DaybookError(error.code, error.message, hint, { cause: error }) : error
}

/** Compared by device and inode, which sees through symlinks and bind mounts. A path that does not exist yet is judged by its nearest parent. */
function mustNotOverlap(mountpoint: string, stat: BigIntStats, { what, path, mayContainMountpoint = false }: OwnPath): void {
  let existing = path
  let target = tryStat(existing)
  const exists = target !== null
  while (target === null && existing !== '/') target = tryStat(existing = parentOf(existing))
  if (target === null) return
  if (same(target, stat) || isInside(existing, stat)) {
    throw new DaybookError('ERR_USAGE', exists && same(target, stat) ? `${mountpoint} is ${what} itself` : `${what} (${path}) lies inside the mountpoint ${mountpoint}`,
      'the mount would hide it from itself: choose another directory')
  }
  if (!mayContainMountpoint && exists && isInside(mountpoint, target)) {
    throw new DaybookError('ERR_USAGE', `the mountpoint ${mountpoint} lies inside ${what} (${path})`, 'choose a directory outside')
  }
}

/** Is one of the parents of `path` that directory? */
function isInside(path: string, directory: BigIntStats): boolean {
  for (let parent = parentOf(path); ; parent = parentOf(parent)) {
    const stat = tryStat(parent)
    if (stat !== null && same(stat, directory)) return true
    if (parent === '/') return false
  }
}

function same(a: BigIntStats, b: BigIntStats): boolean { return a.dev === b.dev && a.ino === b.ino }

/** null also where one may not look: then nothing can be read or written there either */
function tryStat(path: string): BigIntStats | null { try { return statSync(path, { bigint: true }) } catch { return null } }

function mustBeEmpty(path: string): void {
  let names: string[]
  try { names = readdirSync(path) } catch (error) {
    throw new DaybookError('ERR_USAGE', `no permission to look into ${path}`, undefined, { cause: error })
  }
  if (names.length > 0) throw new DaybookError('ERR_USAGE', `${path} is not empty`, 'a mount hides what is in its directory: choose an empty one')
}

/** fusermount3 lets an ordinary user mount only on what he can write to. */
function mustBeOurs(path: string): void {
  if (process.getuid!() === 0) return
  try { accessSync(path, constants.W_OK) } catch (error) {
    throw new DaybookError('ERR_USAGE', `no permission to mount at ${path}`, 'an ordinary user may mount on directories that he can write to', { cause: error })
  }
}
