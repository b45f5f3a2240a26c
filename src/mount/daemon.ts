import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { DaybookError } from '../errors.js'
import type { Level } from '../util/log.js'
import type { MountOptions, RepositoryAccess } from './options.js'
import { errorOf, READY_FD, readOutcome } from './ready.js'

/** What crosses the pipe to a mount process in the background. The password is in it: not in argv or environ, where other programs may read it. */
export interface DaemonOrder {
  readonly options: Omit<MountOptions, 'repository' | 'log' | 'progress'>
  readonly repository: Omit<RepositoryAccess, 'password'> & { /** base64 */ readonly password: string }
  readonly logLevel: Level
  readonly logJson: boolean
}

export interface DaemonOptions {
  readonly mount: MountOptions
  /** takes the log, and whatever Node itself has to say; null: nowhere */
  readonly logFile: string | null
  readonly logLevel: Level
  readonly logJson: boolean
}

/** Secrets that belong to the parent alone: the child gets the password through the pipe. */
const SECRET_VARIABLES = ['RESTIC_PASSWORD']

/**
 * Start a mount process in the background and wait until it serves. It has a session of its own, no terminal, and '/' as working directory.
 * The process is started before the password is asked for: it boots meanwhile.
 * @returns its process id and what it shows
 * @throws what went wrong there, as if it had happened here
 */
export async function startDaemon({ mount, logFile, logLevel, logJson }: DaemonOptions): Promise<{ pid: number, snapshots: number, newest: string | null }> {
  const child = spawnDetached(mount.mountpoint, logFile)
  const stop = () => { child.kill('SIGTERM') }
  const cancel = () => { stop(); process.exit(130) }
  process.on('SIGINT', cancel).on('SIGTERM', cancel)
  try {
    const { repository, log: _log, progress, ...options } = mount
    const { password: _password, ...access } = repository
    const password = await repository.password()
    const order: DaemonOrder = { options, repository: { ...access, password: password.toString('base64') }, logLevel, logJson }
    child.stdin!.on('error', () => { /* EPIPE: it died, and the pipe says why */ })
    password.fill(0)
    child.stdin!.end(JSON.stringify(order))
    const outcome = await readOutcome(child.stdio[READY_FD] as Readable, progress ?? (() => {}))
    if (outcome?.type === 'ready') return { pid: child.pid!, snapshots: outcome.snapshots, newest: outcome.newest }
    throw outcome === null ? await diedSilently(child, logFile) : errorOf(outcome)
  } catch (error) {
    stop()
    throw error
  } finally {
    process.off('SIGINT', cancel).off('SIGTERM', cancel)
    child.unref()
  }
}

function spawnDetached(mountpoint: string, logFile: string | null): ChildProcess {
  const env = { ...process.env }
  for (const name of SECRET_VARIABLES) delete env[name]
  const fd = logFile === null ? 'ignore' : openSync(logFile, 'a', 0o600)
  try {
    // The mountpoint is there for people who look at a list of processes.
    const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(new URL('daemon-main.js', import.meta.url)), mountpoint],
      { detached: true, cwd: '/', env, stdio: ['pipe', fd, fd, 'pipe'] })
    child.on('error', () => { /* no pid: the pipe closes without an outcome */ })
    return child
  } finally {
    if (typeof fd === 'number') closeSync(fd)
  }
}

async function diedSilently(child: ChildProcess, logFile: string | null): Promise<Error> {
  if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) await new Promise(resolve => child.once('exit', resolve))
  return new DaybookError('ERR_UNREACHABLE', `the mount process ended ${child.signalCode === null ? `with ${child.exitCode}` : `by ${child.signalCode}`} before it was ready`,
    logFile === null ? undefined : `its log: ${logFile}`)
}
