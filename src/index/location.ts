import { createHash } from 'node:crypto'
import { closeSync, lstatSync, mkdtempSync, openSync, readdirSync, renameSync, rmSync, statfsSync } from 'node:fs'
import { homedir, hostname, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { DaybookError } from '../errors.js'
import { makeDirectory, ownDirectory, tagCacheDirectory } from '../util/cache-directory.js'
import { DamagedIndexError } from './failure.js'
import { SCHEMA_VERSION } from './schema.js'

/*
 * Where an index lies:
 *
 *   <cache directory>/CACHEDIR.TAG
 *   <cache directory>/<repository id>/index-<schema version>/index.db, index.db-wal, index.db-shm
 *
 * A folder per index lets one rename set all three files aside: a write-ahead log left beside a new database would be replayed into it.
 * All is 0700 and 0600: it holds names of people's files.
 */

const FILE = 'index.db'
const TEMPORARY = 'daybook-index-'
const WEEK_MS = 7 * 24 * 3600_000
const DAY_MS = 24 * 3600_000
const HOUR_MS = 3600_000

/** Where indexes live without `--cache-dir`: $XDG_CACHE_HOME/daybook, else for root /var/cache/daybook, else ~/.cache/daybook. */
export function defaultCacheDir(env: NodeJS.ProcessEnv, uid: number): string {
  if (env.XDG_CACHE_HOME?.startsWith('/')) return join(env.XDG_CACHE_HOME, 'daybook')
  if (uid === 0) return '/var/cache/daybook'
  return join(env.HOME?.startsWith('/') ? env.HOME : home(), '.cache', 'daybook')
}

// node:os throws for a user without an entry in passwd; openIndex() then finds that nothing can be made there.
function home(): string {
  try { return homedir() } catch { return '/nonexistent' }
}

/** A folder that may hold an index; prepare() makes it, as often as needed. */
export interface Place {
  readonly directory: string
  readonly file: string
  readonly persistent: boolean
}

export function persistentPlace(cacheDir: string, repositoryId: string): Place {
  if (!/^[0-9a-f]{64}$/.test(repositoryId)) throw new RangeError('repository id: not 64 hex digits')
  const directory = join(resolve(cacheDir), repositoryId, `index-${SCHEMA_VERSION}`)
  return { directory, file: join(directory, FILE), persistent: true }
}

/** Private folders outside of the cache, made now; the next one is tried when the last proves useless. They go with removePlace(). */
export function* temporaryPlaces(): Generator<Place> {
  for (const parent of new Set([tmpdir(), '/tmp', '/var/tmp', '/dev/shm'])) {
    try {
      const directory = mkdtempSync(join(parent, `${TEMPORARY}${process.pid}-`))
      yield { directory, file: join(directory, FILE), persistent: false }
    } catch {
      // Not there, full, or forbidden: the next.
    }
  }
}

/** Make the folder and the empty file, or find them. @throws errors of node:fs, EPERM if somebody else owns what is there, DamagedIndexError if it is no file */
export function prepare(place: Place): void {
  if (place.persistent) {
    const repository = dirname(place.directory)
    const cacheDir = dirname(repository)
    makeDirectory(cacheDir)
    tagCacheDirectory(cacheDir)
    ownDirectory(repository)
  }
  ownDirectory(place.directory)
  // 'wx' alone: opening and closing a file that SQLite has open in this process would drop SQLite's locks on it.
  try { closeSync(openSync(place.file, 'wx', 0o600)) } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  if (!lstatSync(place.file).isFile()) throw new DamagedIndexError(`${place.file} is not a file`)
}

/**
 * Network file systems keep locks and shared memory coherent within one machine only: there, every machine has an index of its own.
 * NFS, SMB 1 and 2, CIFS, Ceph, Lustre, GFS2, OCFS2, AFS, 9p, FUSE.
 */
const NETWORK = new Set([0x6969, 0x517b, 0xfe534d42, 0xff534d42, 0x00c36400, 0x0bd00bd0, 0x01161970, 0x7461636f, 0x5346414f, 0x01021997, 0x65735546])

/** @returns the place to use instead, where the folder is on a network file system */
export function localPlace(place: Place): Place {
  if (!NETWORK.has(fileSystemType(dirname(place.directory)))) return place
  const directory = `${place.directory}-${createHash('sha256').update(hostname()).digest('hex').slice(0, 16)}`
  return { directory, file: join(directory, FILE), persistent: true }
}

/** Of the folder, or of the nearest one above it that exists. */
function fileSystemType(path: string): number {
  try { return Number(statfsSync(path).type) >>> 0 } catch { return path === '/' ? 0 : fileSystemType(dirname(path)) }
}

/** Which file a path leads to; '' if there is none that we may see. Unique among files that exist or are open. */
export function identity(file: string): string {
  try {
    const { dev, ino } = lstatSync(file, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return ''
  }
}

/** As identity(), but an inode number used again for another file is told from the first. */
export function birth(file: string): string {
  try { return `${identity(file)}:${lstatSync(file, { bigint: true }).birthtimeNs}` } catch { return '' }
}

/**
 * Remove the index whose file is the one meant (birth()) from its place. Two processes may find the same damage at once, and the second must not take
 * the new index of the first away: so the folder is renamed, and renamed back if it holds another file. The connections of others go on with files
 * without a name, until they look at the path (SQLite itself refrains from touching files by name once its database has moved).
 */
export function setAside(place: Place, meant: string): void {
  if (birth(place.file) !== meant) return
  const aside = `${place.directory}.aside-${process.pid}-${Math.random().toString(36).slice(2)}`
  try { renameSync(place.directory, aside) } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  if (birth(join(aside, FILE)) !== meant) {
    try { renameSync(aside, place.directory); return } catch { /* a third one is there already; the owner of this one will notice */ }
  }
  remove(aside)
}

/** Remove a temporary place. */
export function removePlace(place: Place): void {
  if (!place.persistent) remove(place.directory)
}

function remove(path: string): void {
  try { rmSync(path, { recursive: true, force: true }) } catch { /* a leftover for removeLeftovers() */ }
}

/** Remove what processes that were killed and other versions left behind. Never throws. */
export function removeLeftovers(place: Place): void {
  const removeOld = (directory: string, isLeftover: (name: string) => boolean, ageMs: number) => {
    for (const name of list(directory)) {
      const path = join(directory, name)
      if (isLeftover(name) && isOurs(path) && Date.now() - newestChange(path) > ageMs) remove(path)
    }
  }
  if (place.persistent) {
    const repository = dirname(place.directory)
    removeOld(repository, name => /^index-\d+[^/]*\.aside-/.test(name), HOUR_MS)
    // A running process of another version looks at its path now and then, and makes itself a new index.
    removeOld(repository, name => /^index-\d+(-|$)/.test(name) && !name.startsWith(`index-${SCHEMA_VERSION}-`) && name !== `index-${SCHEMA_VERSION}`, WEEK_MS)
  }
  removeOld(tmpdir(), name => name.startsWith(TEMPORARY) && !isAlive(Number.parseInt(name.slice(TEMPORARY.length), 10)), DAY_MS)
}

function list(directory: string): string[] {
  try { return readdirSync(directory) } catch { return [] }
}

// Root must not walk through a folder which its owner can change meanwhile.
function isOurs(path: string): boolean {
  try { return lstatSync(path).uid === process.geteuid!() } catch { return false }
}

function newestChange(path: string): number {
  const paths = [path, join(path, FILE), join(path, `${FILE}-wal`), join(path, `${FILE}-shm`)]
  return Math.max(...paths.map(each => { try { return lstatSync(each).mtimeMs } catch { return 0 } }))
}

function isAlive(pid: number): boolean {
  if (!(pid > 0)) return true
  try { process.kill(pid, 0); return true } catch (error) { return (error as NodeJS.ErrnoException).code !== 'ESRCH' }
}

export function noPlace(cause: unknown): DaybookError {
  return new DaybookError('ERR_INDEX', 'index: no folder can be written to', 'free some space in the cache directory or in /tmp', { cause })
}
