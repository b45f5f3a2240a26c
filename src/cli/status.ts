import { isDaybook, mountAt, readMountTable } from '../mount/mount-table.js'
import { probe } from '../mount/probe.js'
import { resolvePath } from '../mount/resolve-path.js'
import { askAll } from '../mount/status/client.js'
import { isWell, type MountStatus, type ProcessStatus } from '../mount/status/record.js'
import { runtimeDirectory } from '../mount/status/runtime-directory.js'
import { DaybookError } from '../errors.js'
import { EXIT } from './exit-codes.js'
import type { GlobalOptions } from './global-options.js'
import { Output } from './output.js'
import { printable } from './printable.js'
import { formatTable } from './table.js'
import { duration, localTime } from './times.js'

/** A mount that could be asked, and its process. */
type Asked = MountStatus & Pick<ProcessStatus, 'pid' | 'version'> & { readonly ok: boolean }
/** One that could not: its process has died, hangs, or has no socket where we look. */
interface NotAsked { readonly mountpoint: string, readonly state: 'dead' | 'hung' | 'silent', readonly ok: boolean }

const PROBE_MS = 2000

export async function statusCommand(options: GlobalOptions, asked?: string): Promise<number> {
  const wanted = asked === undefined ? null : (await resolvePath(asked, readMountTable())).path
  const isWanted = (mountpoint: string) => wanted === null || mountpoint === wanted
  const answers = (await askMounts()).filter(({ mountpoint }) => isWanted(mountpoint))
  const known = new Set(answers.map(({ mountpoint }) => mountpoint))
  const others = await askKernel(mountpoint => isWanted(mountpoint) && !known.has(mountpoint))
  const mounts = [...answers, ...others].sort((a, b) => a.mountpoint < b.mountpoint ? -1 : a.mountpoint > b.mountpoint ? 1 : 0)
  const ok = mounts.every(({ ok }) => ok)
  const output = new Output()
  if (options.json) output.write(JSON.stringify({ message_type: 'status', ok: ok && mounts.length > 0, mounts }) + '\n')
  else if (mounts.length === 0) process.stderr.write(`daybook: ${wanted === null ? 'nothing is mounted' : `no daybook mount is at ${printable(wanted)}`}\n`)
  else output.write(mounts.length === 1 ? details(mounts[0]) : overview(mounts))
  output.flush()
  return mounts.length === 0 ? EXIT.noMount : ok ? EXIT.ok : EXIT.unwell
}

async function askMounts(): Promise<Asked[]> {
  const directory = runtimeDirectory()
  const processes = await askAll(directory).catch(cause => {
    throw new DaybookError('ERR_USAGE', `no permission to look into ${directory}`, 'it belongs to another user, who can be asked for the status', { cause })
  })
  return processes.flatMap(({ pid, version, mounts }) => mounts.map(mount => ({ ...mount, ok: isWell(mount), pid, version })))
}

/** Those of this user's mounts that nobody answers for, as the kernel knows them. */
async function askKernel(isWanted: (mountpoint: string) => boolean): Promise<NotAsked[]> {
  const table = readMountTable()
  const ours = `user_id=${process.getuid!()}`
  const isSeen = (mountpoint: string) => { const top = mountAt(table, mountpoint); return top !== null && isDaybook(top) && top.superOptions.includes(ours) }
  const mountpoints = [...new Set(table.filter(isDaybook).map(({ mountpoint }) => mountpoint.toString()))].filter(path => isWanted(path) && isSeen(path))
  return Promise.all(mountpoints.map(async mountpoint => {
    const liveness = await probe(mountpoint, PROBE_MS)
    const state = liveness === 'dead' || liveness === 'hung' ? liveness : 'silent'
    return { mountpoint, state, ok: state === 'silent' } as const
  }))
}

function isAsked(mount: Asked | NotAsked): mount is Asked { return 'pid' in mount }

const NOT_ASKED: Record<NotAsked['state'], string> = {
  dead: 'its process has died', hung: 'it does not answer', silent: 'its process has no socket here, or is of another version',
}

/** What is to be seen to, one sentence each. */
function problems(mount: Asked | NotAsked): string[] {
  if (!isAsked(mount)) return [NOT_ASKED[mount.state]]
  const { locations, damage: { count, last: [newest] } } = mount
  return [
    ...locations.filter(({ state }) => state !== 'up').map(({ location, state, since, last_error }) =>
      `${location} is ${state}${since === null ? '' : ` since ${local(since)}`}${last_error === null ? '' : `: ${last_error.message}`}`),
    ...newest === undefined ? [] : [`${count} damaged file${count === 1 ? '' : 's'}, the last: ${newest.file} at ${newest.location}`],
  ]
}

function overview(mounts: readonly (Asked | NotAsked)[]): string {
  const rows = mounts.map(mount => {
    const state = mount.ok ? mount.state === 'serving' ? 'ok' : mount.state : isAsked(mount) ? 'see below' : mount.state
    const more = isAsked(mount) ? [String(mount.snapshots), mount.newest?.name ?? '', mount.newest === null ? '' : age(mount.newest.time), mount.repository] : ['', '', '', '']
    return [mount.mountpoint, state, ...more].map(printable)
  })
  const lines = mounts.filter(({ ok }) => !ok).flatMap(mount => problems(mount).map(problem => printable(`${mount.mountpoint}: ${problem}`) + '\n'))
  return formatTable(['Mountpoint', 'State', 'Snapshots', 'Newest', 'Age', 'Repository'], rows) + (lines.length === 0 ? '' : `\n${lines.join('')}`)
}

function details(mount: Asked | NotAsked): string {
  if (!isAsked(mount)) return `${printable(mount.mountpoint)}\n  ${NOT_ASKED[mount.state]}\n`
  const { repository, pid, since, state, snapshots, newest, cache, locations, damage, errors } = mount
  const facts: [string, string][] = [
    ['repository', repository],
    ['process', `${pid}, since ${local(since)}${state === 'leaving' ? '; it is out of the tree, and serves what is open' : ''}`],
    ['snapshots', newest === null ? 'none yet' : `${snapshots}, the newest ${newest.name}, ${age(newest.time)} old`],
    ...cache === null ? [] : [['disk cache', `${size(cache.used_bytes)} of ${size(cache.max_bytes)}`] satisfies [string, string]],
    ...Object.keys(errors).length === 0 ? [] : [['errors', Object.entries(errors).map(([code, count]) => `${code} ${count}`).join(', ')] satisfies [string, string]],
  ]
  const tables = [
    formatTable(['Location', 'State', 'Since', 'Last error'], locations.map(({ location, state, since, last_error }) =>
      [location, state, since === null ? '' : local(since), last_error === null ? '' : `${local(last_error.time)} ${last_error.message}`].map(printable))),
    formatTable(['Damaged', 'Location', 'Last seen', 'Times', 'What'], damage.last.map(({ file, location, time, times, reason }) => [file, location, local(time), String(times), reason].map(printable))),
  ]
  const rest = damage.count - damage.last.length
  return `${printable(mount.mountpoint)}\n${facts.map(([name, fact]) => `  ${name.padEnd(10)}  ${printable(fact)}\n`).join('')}` +
    tables.filter(table => table !== '').map(table => `\n${table}`).join('') + (rest > 0 ? `and ${rest} more damaged file${rest === 1 ? '' : 's'}\n` : '')
}

function local(time: string): string { return localTime(Date.parse(time)) }
function age(time: string): string { return duration(Date.now() - Date.parse(time)) }

function size(bytes: number | null): string {
  if (bytes === null) return '?'
  const unit = bytes >= 1e9 ? ['GB', 1e9] as const : ['MB', 1e6] as const
  return `${(bytes / unit[1]).toFixed(1)} ${unit[0]}`
}
