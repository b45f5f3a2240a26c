import { existsSync, mkdirSync, openSync, closeSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, resolve } from 'node:path'
import { DaybookError } from '../errors.js'
import { defaultCacheDir } from '../index/location.js'
import type { Layout, MountOptions } from '../mount/options.js'
import { prepareMountpoint, type OwnPath } from '../mount/mountpoint.js'
import { mustBeAbleToMount } from '../mount/requirements.js'
import type { MountEvent } from '../mount/run-mount.js'
import { createLogger, type Level, type Logger } from '../util/log.js'
import { EXIT } from './exit-codes.js'
import { snapshotFilter } from './filters.js'
import type { FilterOptions, GlobalOptions } from './global-options.js'
import { printable } from './printable.js'
import { Progress } from './progress.js'
import { repositoryAccess, withTries } from './repository-access.js'
import { shellQuote } from './shell-quote.js'
import { diskCacheSettings } from './cache-options.js'
import { parseOwner, parseSeconds, parseSubtree } from './values.js'

export interface MountCommandOptions extends GlobalOptions, FilterOptions {
  daemon?: boolean
  layout: Layout
  snapshot?: string[]
  subtree?: string
  owner?: string
  allowOther?: boolean
  poll: string
  logFile?: string
}

/** Everything that can be refused without the password is refused before it is asked for. */
export async function mountCommand(options: MountCommandOptions, dir: string): Promise<number> {
  const level: Level = options.verbose > 0 ? 'debug' : options.quiet ? 'error' : 'info'
  const log = createLogger({ level, json: options.json, write: line => { process.stderr.write(line) } })
  const progress = new Progress({ quiet: options.quiet || options.json })
  const { access, localPaths, passwordTries } = await repositoryAccess(options)
  const cacheDir = resolve(options.cacheDir ?? defaultCacheDir(process.env, process.getuid!()))
  const settings = {
    layout: options.layout, ...snapshotFilter(options, options.snapshot),
    subtree: options.subtree === undefined ? null : parseSubtree(options.subtree),
    owner: options.owner === undefined ? null : parseOwner(options.owner),
    allowOther: options.allowOther ?? false, cacheDir, diskCache: diskCacheSettings(options), pollSeconds: parseSeconds('--poll', options.poll),
  }
  if (options.logFile !== undefined && !options.daemon) throw new DaybookError('ERR_USAGE', '--log-file goes with --daemon', 'in the foreground the log goes to standard error')
  mustBeAbleToMount(settings)
  const mountpoint = await prepareMountpoint(dir, ownPaths(localPaths, cacheDir), log)
  // Not before the password is there: the line would be drawn over the question.
  const password = () => access.password().finally(() => progress.update('opening the repository'))
  const mount: MountOptions = { ...settings, repository: { ...access, password }, mountpoint, log, progress: progress.update }
  return withTries(passwordTries, () => (options.daemon ? background(mount, options, level, progress) : foreground(mount, options, progress)).finally(() => progress.done()))
}

function ownPaths(repositories: readonly string[], cacheDir: string): OwnPath[] {
  return [
    ...repositories.map(path => ({ what: 'the repository', path })),
    { what: 'the cache directory', path: cacheDir, mayContainMountpoint: true },
  ]
}

async function foreground(mount: MountOptions, options: MountCommandOptions, progress: Progress): Promise<number> {
  // Nobody may be listening any more when there is something to say: no reason to end, which would leave a dead mount behind.
  process.stdout.removeAllListeners('error').on('error', () => {})
  const { runMount } = await import('../mount/run-mount.js')
  return runMount(mount, event => { progress.done(); sayEvent(event, mount, options) })
}

async function background(mount: MountOptions, options: MountCommandOptions, logLevel: Level, progress: Progress): Promise<number> {
  const { startDaemon } = await import('../mount/daemon.js')
  const logFile = options.logFile === undefined ? defaultLogFile(mount.mountpoint, mount.log) : givenLogFile(resolve(options.logFile))
  const { pid, snapshots, newest } = await startDaemon({ mount, logFile, logLevel, logJson: options.json ?? false })
  progress.done()
  sayReady({ snapshots, newest, pid, logFile }, mount, options)
  return EXIT.ok
}

function sayEvent(event: MountEvent, mount: MountOptions, options: MountCommandOptions): void {
  if (event.type === 'ready') return sayReady({ ...event, pid: process.pid, logFile: null }, mount, options)
  if (options.json) process.stdout.write(JSON.stringify({ message_type: event.type, ...event, type: undefined }) + '\n')
  else if (options.quiet || event.type === 'leaving') return
  else if (event.type === 'busy') {
    process.stdout.write(`${printable(event.mountpoint)} is in use: it is out of the tree, and what is open is served to its end. Once more to stop at once.\n`)
  } else process.stdout.write(event.errno === 0 ? `unmounted ${printable(event.mountpoint)}\n` : `lost the connection to the kernel (error ${event.errno})\n`)
}

interface Ready { readonly snapshots: number, readonly newest: string | null, readonly pid: number, readonly logFile: string | null }

function sayReady({ snapshots, newest, pid, logFile }: Ready, mount: MountOptions, { json, quiet, daemon }: MountCommandOptions): void {
  const { mountpoint, repository: { location: { display } } } = mount
  if (json) {
    process.stdout.write(JSON.stringify({ message_type: 'ready', mountpoint, repository: display, snapshots, newest, pid, log_file: logFile }) + '\n')
  } else if (!quiet) {
    const count = snapshots === 0 ? 'no snapshots yet' : `${snapshots} snapshot${snapshots === 1 ? '' : 's'}, the newest ${newest}`
    const leave = `daybook unmount ${shellQuote(mountpoint)}`
    process.stdout.write(`${printable(display)} is at ${printable(mountpoint)}: ${printable(count)}\n` +
      `${daemon ? `process ${pid}${logFile === null ? '' : `, log ${printable(logFile)}`}; to leave: ` : 'to leave: Ctrl-C here, or '}${printable(leave)}\n`)
  }
}

/** $XDG_STATE_HOME/daybook, else for root /var/log/daybook, else ~/.local/state/daybook. */
function logFolder({ XDG_STATE_HOME: state, HOME }: NodeJS.ProcessEnv): string {
  if (state?.startsWith('/')) return `${state}/daybook`
  return process.getuid!() === 0 ? '/var/log/daybook' : `${HOME?.startsWith('/') ? HOME : homedir()}/.local/state/daybook`
}

/** One per mountpoint, in logFolder(). null if it cannot be made: a mount without a log is better than none. */
function defaultLogFile(mountpoint: string, log: Logger): string | null {
  const folder = logFolder(process.env)
  // 200 bytes leave room for a suffix in a name of 255.
  const name = Buffer.from(mountpoint.slice(1).replaceAll('/', '-')).subarray(-200).toString('latin1').replace(/[^\w.-]/g, '_')
  const file = `${folder}/${name}.log`
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    closeSync(openSync(file, 'a', 0o600))
    return file
  } catch (error) {
    log.warn('the mount process will have no log', { file, reason: (error as NodeJS.ErrnoException).code })
    return null
  }
}

function givenLogFile(file: string): string {
  try { closeSync(openSync(file, 'a', 0o600)) } catch (error) {
    const hint = existsSync(dirname(file)) ? undefined : `make its directory first: mkdir -p ${dirname(file)}`
    throw new DaybookError('ERR_USAGE', `cannot write the log file ${file} (${(error as NodeJS.ErrnoException).code})`, hint, { cause: error })
  }
  return file
}
