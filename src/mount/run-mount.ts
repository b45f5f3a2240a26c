import { statfs } from 'node:fs/promises'
import { DaybookError } from '../errors.js'
import { version } from '../util/version.js'
import { isDaybook, mountAt, readMountTable } from './mount-table.js'
import type { MountOptions, RunningMount } from './options.js'
import { raiseReadAhead } from './read-ahead-kb.js'
import { handleSignals, exitCodes } from './signals.js'
import { Incidents } from './status/incidents.js'
import type { MountStatus, ProcessStatus } from './status/record.js'
import type { StatusServer } from './status/server.js'
import { unmountEntry } from './unmount.js'

/** What a mount process has to tell a person or a parent process. */
export type MountEvent =
  | { readonly type: 'ready', readonly mountpoint: string, readonly snapshots: number, readonly newest: string | null }
  /** told to leave */
  | { readonly type: 'leaving', readonly mountpoint: string, readonly signal: string }
  /** told to leave, but somebody uses the mount: it is out of the tree, what is open is still served */
  | { readonly type: 'busy', readonly mountpoint: string }
  /** `errno`: 0 after an unmount */
  | { readonly type: 'ended', readonly mountpoint: string, readonly errno: number }

/**
 * The life of a mount: start it, serve it until it is unmounted, told to leave, or broken. Belongs to a process of its own.
 * @returns what the process should exit with
 * @throws what startMount throws, before 'ready' only
 */
export async function runMount(options: MountOptions, tell: (event: MountEvent) => void): Promise<number> {
  const { mountpoint } = options
  const incidents = new Incidents(options.repository.location.display)
  const log = incidents.listen(options.log)
  const heard = { ...options, log }
  let running: RunningMount | null = null
  let isLeaving = false
  const unguard = guardAgainstCrashes(heard, () => running)
  const signals = handleSignals({
    log, early: () => leaveBeforeReady(mountpoint),
    leaving: signal => tell({ type: 'leaving', mountpoint, signal }),
    busy() {
      isLeaving = true
      tell({ type: 'busy', mountpoint })
    },
  })
  let status: StatusServer | null = null
  try {
    const { native } = await import('../native.js')
    native.forbidCoreDumps()
    const opening = (await import('./opening.js')).beginOpening(heard)
    const [{ startMount }, { StatusServer }] = await Promise.all([import('./serve.js'), import('./status/server.js')])
    const mount: RunningMount = running = await startMount(heard, opening)
    signals.serving(mount)
    const since = new Date().toISOString()
    const ofMount = async (): Promise<MountStatus> => ({ state: isLeaving ? 'leaving' : 'serving', ...await mount.status(), damage: incidents.damage, errors: incidents.errors })
    const ofProcess = async (): Promise<ProcessStatus> => ({ pid: process.pid, version: version(), since, mounts: [await ofMount()] })
    status = new StatusServer({ answers: { status: async () => ({ status: await ofProcess() }) }, log })
    await status.listen()
    // Answered by ourselves, once the kernel and we have agreed on a protocol (FUSE_INIT): only then does it really work, and only then is the
    // read-ahead of the kernel's choosing set, which would undo ours.
    await statfs(mountpoint).catch(() => {})
    const entry = mountAt(readMountTable(), mountpoint)
    if (entry !== null && isDaybook(entry) && process.getuid!() === 0) raiseReadAhead(entry.device, log)
    tell({ type: 'ready', mountpoint, ...mount.summary() })
    const errno = await mount.closed
    tell({ type: 'ended', mountpoint, errno })
    return signals.exitCode() ?? (errno === 0 ? 0 : exitCodes.failure)
  } finally {
    status?.close()
    signals.release()
    unguard()
  }
}

/** Told to go while starting: the kernel's mount may or may not be there already; nobody uses it yet. */
async function leaveBeforeReady(mountpoint: string): Promise<never> {
  const entry = mountAt(readMountTable(), mountpoint)
  if (entry !== null && isDaybook(entry)) await unmountEntry(entry, mountpoint, true).catch(() => {})
  return process.exit(exitCodes.cancelled)
}

/**
 * A fault nobody foresaw: what is true of the state afterwards is unknown, so nothing more is served. The mountpoint is left clean, since a
 * dead mount would give every `ls` of the parent directory an error until somebody comes and unmounts it.
 */
function guardAgainstCrashes({ log, mountpoint }: MountOptions, running: () => RunningMount | null): () => void {
  let crashing = false
  const crash = (fault: string) => (error: unknown) => {
    if (crashing) return
    crashing = true
    const mount = running()
    if (mount === null && error instanceof DaybookError) log.error(error.message, { hint: error.hint })
    else log.error(fault, { mountpoint, error })
    try { mount?.detach() } catch (second) { log.error('cannot unmount', { mountpoint, error: second }) }
    process.removeAllListeners('SIGTERM').removeAllListeners('SIGINT')
    process.exit(exitCodes.failure)
  }
  const listeners = { uncaughtException: crash('uncaught exception'), unhandledRejection: crash('unhandled rejection') }
  for (const [event, listener] of Object.entries(listeners)) process.on(event, listener)
  return () => { for (const [event, listener] of Object.entries(listeners)) process.off(event, listener) }
}
