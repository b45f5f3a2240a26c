import { accessSync, closeSync, constants, openSync, readFileSync, statSync } from 'node:fs'
import { delimiter } from 'node:path'
import { DaybookError } from '../errors.js'

/** What a machine must have for a mount. Each is one fact, looked up when asked; `doctor` shows them, `mount` refuses without them. */
export const FUSE_DEVICE = '/dev/fuse'
export const FUSE_CONF = '/etc/fuse.conf'

/** udev gives the device this mode; without udev it is root's alone. */
export const OPEN_TO_ALL = `as root: chmod 666 ${FUSE_DEVICE}`

export type DeviceState = 'ok' | 'missing' | 'no module' | 'no permission'

/** Can this process open /dev/fuse itself? */
export function fuseDevice(): DeviceState {
  try {
    closeSync(openSync(FUSE_DEVICE, constants.O_RDWR))
    return 'ok'
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'EACCES' || code === 'EPERM' ? 'no permission' : code === 'ENOENT' ? 'missing' : 'no module'
  }
}

/** May everybody open it? */
export function fuseDeviceOpenToAll(): boolean { return (statSync(FUSE_DEVICE).mode & 0o006) === 0o006 }

/** Where fusermount3 is, and whether it may do what only root can. null: not installed */
export function fusermount3(): { path: string, setuid: boolean } | null {
  for (const folder of new Set(['/usr/bin', ...(process.env.PATH ?? '').split(delimiter)])) {
    const path = `${folder}/fusermount3`
    try {
      accessSync(path, constants.X_OK)
      const { uid, mode } = statSync(path)
      return { path, setuid: uid === 0 && (mode & 0o4000) !== 0 }
    } catch { /* not there */ }
  }
  return null
}

/** Does /etc/fuse.conf let ordinary users give others access? */
export function userAllowOther(conf = FUSE_CONF): boolean {
  try { return readFileSync(conf, 'latin1').split('\n').some(line => line.trim() === 'user_allow_other') } catch { return false }
}

const CAP_SYS_ADMIN = 21n

/** May this process mount by itself? In a container, root often may not. */
export function maySysAdmin(): boolean {
  const found = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))
  return found !== null && (BigInt(`0x${found[1]}`) >> CAP_SYS_ADMIN & 1n) === 1n
}

/** @throws DaybookError ERR_UNSUPPORTED, with how to mend it */
export function mustBeAbleToMount({ allowOther }: { allowOther: boolean }): void {
  const device = fuseDevice()
  if (device === 'missing') {
    throw new DaybookError('ERR_UNSUPPORTED', `${FUSE_DEVICE} does not exist`, 'load the kernel module: modprobe fuse; in a container: run it with --device /dev/fuse --cap-add SYS_ADMIN')
  }
  if (device === 'no module') {
    throw new DaybookError('ERR_UNSUPPORTED', `${FUSE_DEVICE} cannot be opened: the kernel has no FUSE, or the container hides it`, 'load the kernel module: modprobe fuse')
  }
  if (device === 'ok' && maySysAdmin()) return
  // fusermount3 opens it with the rights of who calls it.
  if (device === 'no permission') {
    throw new DaybookError('ERR_UNSUPPORTED', `no permission to open ${FUSE_DEVICE}`, process.getuid!() === 0 ? 'in a container: run it with --device /dev/fuse --cap-add SYS_ADMIN' : OPEN_TO_ALL)
  }
  const helper = fusermount3()
  if (helper === null) throw new DaybookError('ERR_UNSUPPORTED', 'fusermount3 is not installed, and mounting without it takes root', 'apt-get install fuse3')
  if (!helper.setuid && process.getuid!() !== 0) {
    throw new DaybookError('ERR_UNSUPPORTED', `${helper.path} is not setuid root, so ordinary users cannot mount`, `as root: chown root ${helper.path} && chmod 4755 ${helper.path}`)
  }
  if (allowOther && process.getuid!() !== 0 && !userAllowOther()) {
    throw new DaybookError('ERR_UNSUPPORTED', `--allow-other is for root, unless ${FUSE_CONF} says otherwise`, `as root: echo user_allow_other >> ${FUSE_CONF}`)
  }
}
