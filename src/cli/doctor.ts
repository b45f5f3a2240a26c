import { accessSync, constants, readdirSync, readFileSync, statSync, type Dirent } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { defaultCacheDir } from '../index/location.js'
import { guardCanAbort } from '../mount/guard.js'
import { FUSE_CONF, FUSE_DEVICE, fuseDevice, fuseDeviceOpenToAll, fusermount3, maySysAdmin, OPEN_TO_ALL, userAllowOther } from '../mount/requirements.js'
import { EXIT } from './exit-codes.js'
import type { GlobalOptions } from './global-options.js'
import { printable } from './printable.js'

export interface Finding {
  readonly check: string
  /** fail: a mount cannot work; warn: something less will */
  readonly state: 'ok' | 'warn' | 'fail'
  readonly fact: string
  readonly mend?: string
}

/** Look at everything a mount needs, without changing anything. */
export async function doctorCommand(options: GlobalOptions): Promise<number> {
  const root = process.getuid!() === 0
  const findings = [
    nodeVersion(), kernelVersion(), device(root), moduleLoaded(), capability(root), helper(root), await library(), await addon(), guard(root), allowOther(root),
    ...cacheDirectory(options.cacheDir ?? defaultCacheDir(process.env, process.getuid!())),
  ]
  const failed = findings.some(({ state }) => state === 'fail')
  if (options.json) process.stdout.write(JSON.stringify({ message_type: 'doctor', ok: !failed, checks: findings }) + '\n')
  else for (const finding of findings) process.stdout.write(line(finding))
  return failed ? EXIT.failure : EXIT.ok
}

function line({ check, state, fact, mend }: Finding): string {
  return `${state.padEnd(4)}  ${check.padEnd(16)}  ${printable(fact)}\n${mend === undefined ? '' : `${' '.repeat(24)}-> ${printable(mend)}\n`}`
}

function nodeVersion(): Finding {
  const ok = Number(process.versions.node.split('.')[0]) >= 20
  return { check: 'node', state: ok ? 'ok' : 'fail', fact: process.versions.node, mend: ok ? undefined : 'install version 20 or later: https://nodejs.org' }
}

/** 4.20 caches symlinks and answers OPENDIR from the cache; older kernels ask more often, 5.1 stopped asking at all. */
const OLDEST_GOOD_KERNEL = [5, 4]

function kernelVersion(): Finding {
  const [major, minor] = release().split('.').map(Number)
  const ok = major > OLDEST_GOOD_KERNEL[0] || major === OLDEST_GOOD_KERNEL[0] && minor >= OLDEST_GOOD_KERNEL[1]
  return { check: 'kernel', state: ok ? 'ok' : 'warn', fact: release(), mend: ok ? undefined : `with ${OLDEST_GOOD_KERNEL.join('.')} or later, less is asked twice` }
}

function device(root: boolean): Finding {
  const state = fuseDevice()
  const check = FUSE_DEVICE
  if (state === 'ok' && root && !fuseDeviceOpenToAll()) return { check, state: 'warn', fact: 'can be opened by root only: ordinary users cannot mount', mend: OPEN_TO_ALL }
  if (state === 'ok') return { check, state: 'ok', fact: 'can be opened' }
  if (state === 'no permission' && !root) return { check, state: 'fail', fact: 'can be opened by others only', mend: OPEN_TO_ALL }
  if (state === 'no permission') return { check, state: 'fail', fact: 'may not be opened', mend: 'in a container: run it with --device /dev/fuse --cap-add SYS_ADMIN' }
  if (state === 'missing') return { check, state: 'fail', fact: 'does not exist', mend: 'modprobe fuse; in a container: run it with --device /dev/fuse --cap-add SYS_ADMIN' }
  return { check, state: 'fail', fact: 'cannot be opened', mend: 'modprobe fuse' }
}

function moduleLoaded(): Finding {
  const known = readFile('/proc/filesystems').split('\n').some(name => name.split('\t').pop() === 'fuse')
  return known ? { check: 'fuse module', state: 'ok', fact: 'in the kernel' } : { check: 'fuse module', state: 'fail', fact: 'not in the kernel', mend: 'modprobe fuse' }
}

function capability(root: boolean): Finding {
  if (maySysAdmin()) return { check: 'right to mount', state: 'ok', fact: 'CAP_SYS_ADMIN' }
  if (!root) return { check: 'right to mount', state: 'ok', fact: 'ordinary user: through fusermount3' }
  return { check: 'right to mount', state: 'fail', fact: 'root without CAP_SYS_ADMIN', mend: 'in a container: run it with --cap-add SYS_ADMIN' }
}

function helper(root: boolean): Finding {
  const check = 'fusermount3'
  const found = fusermount3()
  const harm = root ? 'warn' : 'fail'
  if (found === null) return { check, state: harm, fact: 'not installed: ordinary users cannot mount', mend: 'apt-get install fuse3' }
  if (!found.setuid) return { check, state: harm, fact: `${found.path} is not setuid root: ordinary users cannot mount`, mend: `as root: chown root ${found.path} && chmod 4755 ${found.path}` }
  return { check, state: 'ok', fact: `${found.path}, setuid root` }
}

/** Which libfuse3 the addon would load or has loaded: the file name ends in its version. */
async function library(): Promise<Finding> {
  const check = 'libfuse3'
  await import('../native.js').catch(() => {})
  const loaded = /\S*\/libfuse3\.so\S*/.exec(readFile('/proc/self/maps'))?.[0] ?? libraryFile()
  if (loaded === undefined) return { check, state: 'fail', fact: 'not installed', mend: 'apt-get install libfuse3-3 (libfuse3-4 on newer systems)' }
  return { check, state: 'ok', fact: `${/so\.(.+)$/.exec(loaded)?.[1] ?? 'version unknown'} (${loaded})` }
}

function libraryFile(): string | undefined {
  for (const folder of [`/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`, '/usr/lib64', '/usr/lib', '/lib', '/usr/local/lib']) {
    try {
      const name = readdirSync(folder).filter(name => name.startsWith('libfuse3.so.')).sort().pop()
      if (name !== undefined) return join(folder, name)
    } catch { /* no such folder */ }
  }
}

async function addon(): Promise<Finding> {
  const check = 'addon'
  try {
    await import('../native.js')
    return { check, state: 'ok', fact: 'loads' }
  } catch (error) {
    return { check, state: 'fail', fact: `does not load: ${(error as Error).message.split('\n')[0]}`, mend: 'npm run build:native (it needs libfuse3-dev, libzstd-dev, pkg-config, a C++ compiler); scripts/setup does it all' }
  }
}

/** Without it, a process that is killed may leave readers that hang; everything else works. */
function guard(root: boolean): Finding {
  const check = 'guard'
  const state = guardCanAbort()
  if (state === 'yes') return { check, state: 'ok', fact: 'can end the connection of a mount whose process was killed' }
  if (state === 'missing') return { check, state: 'warn', fact: 'not built, or cannot be run', mend: 'npm run build' }
  return { check, state: 'warn', fact: 'fusectl is not mounted: readers of a mount whose process was killed may hang',
    mend: root ? 'daybook unmount --force lets them go' : 'as root: mount -t fusectl fusectl /sys/fs/fuse/connections' }
}

function allowOther(root: boolean): Finding {
  const check = 'user_allow_other'
  if (userAllowOther()) return { check, state: 'ok', fact: `set in ${FUSE_CONF}` }
  if (root) return { check, state: 'ok', fact: 'not set; root does not need it for --allow-other' }
  return { check, state: 'warn', fact: `not set in ${FUSE_CONF}: --allow-other is for root only`, mend: `as root: echo user_allow_other >> ${FUSE_CONF}` }
}

function cacheDirectory(path: string): Finding[] {
  const check = 'cache directory'
  const nearest = nearestExisting(path)
  try { accessSync(nearest, constants.W_OK | constants.X_OK) } catch {
    return [{ check, state: 'warn', fact: `${path} cannot be written: every mount would read all index files again`, mend: 'choose another with --cache-dir' }]
  }
  return [{ check, state: 'ok', fact: nearest === path ? `${path}, ${megabytes(sizeOf(path))}` : `${path}, to be made` }]
}

function nearestExisting(path: string): string {
  for (let at = path; ; at = join(at, '..')) if (statSync(at, { throwIfNoEntry: false }) !== undefined || at === '/') return at
}

function sizeOf(folder: string): number {
  let entries: Dirent[]
  try { entries = readdirSync(folder, { withFileTypes: true }) } catch { return 0 }
  return entries.reduce((sum, entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sum + sizeOf(path)
    return sum + (entry.isFile() ? (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * 512 : 0)
  }, 0)
}

function readFile(path: string): string { try { return readFileSync(path, 'latin1') } catch { return '' } }
function megabytes(bytes: number): string { return `${(bytes / 1e6).toFixed(1)} MB` }
