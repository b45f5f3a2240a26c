import { spawn } from 'node:child_process'
import { openSync, closeSync, writeSync } from 'node:fs'
import { DaybookError } from '../errors.js'
import { isDaybook, isFuse, mountAt, readMountTable, type MountEntry } from './mount-table.js'
import { probe } from './probe.js'
import { resolvePath } from './resolve-path.js'

/** umount2(2) */
const MNT_FORCE = 1
const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8

export type UnmountMode =
  /** refused while somebody uses it */
  | 'plain'
  /** out of the tree at once; what is open goes on being served */
  | 'lazy'
  /** what is open gets ENOTCONN, whoever waits is let go, then lazily */
  | 'force'

export interface Unmounted {
  readonly mountpoint: string
  /** nobody was serving it any more */
  readonly wasDead: boolean
}

/**
 * Unmount a daybook mount, or the remains of one, at `path`, for root and for the user who made it.
 * @throws DaybookError ERR_USAGE: nothing of ours is mounted there; BusyError
 */
export async function unmountPath(path: string, mode: UnmountMode): Promise<Unmounted> {
  const { path: mountpoint, mount } = await resolvePath(path, readMountTable())
  if (mount === null) throw new DaybookError('ERR_USAGE', `nothing is mounted at ${mountpoint}`)
  // A mount without a subtype may be the remains of an older helper; only a dead one is taken for ours.
  const liveness = isFuse(mount) && !isDaybook(mount) ? await probe(mountpoint) : null
  if (!isDaybook(mount) && liveness !== 'dead') {
    throw new DaybookError('ERR_USAGE', `what is mounted at ${mountpoint} is not a daybook mount but ${mount.type}`, `unmount it with: umount ${mountpoint}`)
  }
  const wasDead = (liveness ?? await probe(mountpoint, mode === 'plain' ? undefined : 1000)) === 'dead'
  if (mode === 'force') await abortConnection(mount, mountpoint)
  if (mountAt(readMountTable(), mountpoint)?.id === mount.id) await unmountEntry(mount, mountpoint, wasDead || mode !== 'plain')
  return { mountpoint, wasDead }
}

/** Unmount what the table says is mounted at `mountpoint`, and see it gone. @throws BusyError */
export async function unmountEntry(mount: MountEntry, mountpoint: string, lazy: boolean): Promise<void> {
  try {
    await unmountNow(mount, mountpoint, lazy)
  } catch (error) {
    // its process ended meanwhile, and has unmounted it itself
    if (!isMounted(mount, mountpoint)) return
    throw error
  }
}

async function unmountNow(mount: MountEntry, mountpoint: string, lazy: boolean): Promise<void> {
  if (process.getuid!() === 0 && await umount2(mountpoint, lazy)) return mustBeGone(mount, mountpoint)
  const { status, said } = await fusermount(['-u', ...lazy ? ['-z'] : [], '--', mountpoint])
  if (status === 0) return mustBeGone(mount, mountpoint)
  if (/busy/i.test(said)) throw new BusyError(mountpoint)
  if (/not found in|permitted|permission|bad mount point/i.test(said)) {
    throw new DaybookError('ERR_UNSUPPORTED', `no permission to unmount ${mountpoint}`, 'only the user who mounted it and root may unmount it')
  }
  throw new DaybookError('ERR_UNREACHABLE', `cannot unmount ${mountpoint}: ${said || `fusermount3 ended with ${status}`}`)
}

/** false: the addon is not there to ask, or the kernel wants fusermount3 to do it */
async function umount2(mountpoint: string, lazy: boolean): Promise<boolean> {
  let native
  try { ({ native } = await import('../native.js')) } catch { return false }
  try {
    native.umount2(Buffer.from(mountpoint), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0))
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EBUSY') throw new BusyError(mountpoint)
    if (code === 'EPERM') return false
    throw new DaybookError('ERR_UNREACHABLE', `cannot unmount ${mountpoint}: ${(error as Error).message}`, undefined, { cause: error })
  }
}

/** Somebody uses the mount; it stays. */
export class BusyError extends DaybookError {
  override readonly name = 'BusyError'
  constructor(readonly mountpoint: string) {
    super('ERR_ABORTED', `${mountpoint} is in use`, `see who uses it: fuser -vm ${mountpoint}; ` +
      `to take it out of the tree at once, while what is open goes on being served: daybook unmount --lazy ${mountpoint}`)
  }
}

function isMounted(mount: MountEntry, mountpoint: string): boolean { return mountAt(readMountTable(), mountpoint)?.id === mount.id }

function mustBeGone(mount: MountEntry, mountpoint: string): void {
  if (isMounted(mount, mountpoint)) throw new DaybookError('ERR_UNREACHABLE', `${mountpoint} is still mounted`)
}

/**
 * End the connection between kernel and server, whether that answers or not: everyone who waits gets an error. Root's way is umount2(2); the user
 * who mounted has a file for it, where fusectl is mounted. Without either the lazy unmount that follows has to do.
 */
async function abortConnection(mount: MountEntry, mountpoint: string): Promise<void> {
  try {
    if (process.getuid!() === 0) {
      const { native } = await import('../native.js')
      // Aborts first, then is refused because it is in use, which is what the lazy unmount is for.
      native.umount2(Buffer.from(mountpoint), UMOUNT_NOFOLLOW | MNT_FORCE)
    } else {
      const file = openSync(`/sys/fs/fuse/connections/${mount.device.minor}/abort`, 'w')
      try { writeSync(file, '1') } finally { closeSync(file) }
    }
  } catch { /* see above */ }
}

function fusermount(args: string[]): Promise<{ status: number | null, said: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn('fusermount3', args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, LC_ALL: 'C' } })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', text => { said += text })
    child.on('error', error => reject(new DaybookError('ERR_UNSUPPORTED', 'fusermount3 cannot be run', 'install it: apt-get install fuse3', { cause: error })))
    child.on('close', status => resolve({ status, said: said.trim() }))
  })
}
