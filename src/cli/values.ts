import { execFileSync } from 'node:child_process'
import { DaybookError } from '../errors.js'

/** Values of options, each as a person may write it. All throw DaybookError ERR_USAGE. */

/** "60", "90s", "5m", "1h": seconds */
export function parseSeconds(option: string, text: string): number {
  const found = /^(\d+(?:\.\d+)?)(s|m|h)?$/.exec(text)
  const seconds = found === null ? NaN : Number(found[1]) * { s: 1, m: 60, h: 3600 }[(found[2] ?? 's') as 's' | 'm' | 'h']
  // Above it a timer of Node's would fire at once.
  if (!(seconds <= 2 ** 31 / 1000)) throw new DaybookError('ERR_USAGE', `${option} ${text}: not a time`, 'examples: 60, 90s, 5m, 1h; 0 for never')
  return seconds
}

const UNITS = ['', 'K', 'M', 'G', 'T']

/** "500M", "20G", "1.5 TiB", "4096": bytes; units are powers of 1024 */
export function parseSize(option: string, text: string): number {
  const found = /^(\d+(?:\.\d+)?)\s?([kmgt]?)(?:i?b)?$/i.exec(text.trim())
  const bytes = found === null ? NaN : Math.floor(Number(found[1]) * 1024 ** UNITS.indexOf(found[2].toUpperCase()))
  if (!Number.isSafeInteger(bytes)) throw new DaybookError('ERR_USAGE', `${option} ${text}: not a size`, 'examples: 500M, 20G; 0 for nothing')
  return bytes
}

/** Absolute, without '.', '..' and '//'; null for the whole snapshot. */
export function parseSubtree(text: string): string | null {
  const parts = text.split('/').filter(part => part !== '' && part !== '.')
  if (parts.includes('..')) throw new DaybookError('ERR_USAGE', `--subtree ${text}: '..' leads out of it`)
  return parts.length === 0 ? null : `/${parts.join('/')}`
}

/** "UID:GID", "user:group", "user" or "user:" (the user's own group). */
export function parseOwner(text: string): { uid: number, gid: number } {
  const [user, group, more] = text.split(':')
  if (user === '' || more !== undefined) throw new DaybookError('ERR_USAGE', `--owner ${text}: not an owner`, 'examples: 1000:1000, anna:users, anna')
  if (group !== undefined && group !== '') return { uid: lookUp('passwd', user)?.id ?? unknown('user', user), gid: lookUp('group', group)?.id ?? unknown('group', group) }
  const entry = lookUp('passwd', user, true)
  if (entry === null) unknown('user', user)
  if (entry.gid === null) throw new DaybookError('ERR_USAGE', `--owner ${text}: no user has this number, so its group is not known`, `give it: --owner ${text}:${text}`)
  return { uid: entry.id, gid: entry.gid }
}

/** 2^32 - 1 means "leave as it is" to chown(2). */
const MAX_ID = 2 ** 32 - 2

/** A number stands for itself, unless the entry behind it is wanted. getent also asks directory services, which /etc/passwd does not know. */
function lookUp(database: 'passwd' | 'group', name: string, entryWanted = false): { id: number, gid: number | null } | null {
  const number = /^\d+$/.test(name) ? Number(name) : null
  if (number !== null && number > MAX_ID) return null
  if (number !== null && !entryWanted) return { id: number, gid: null }
  try {
    const fields = execFileSync('getent', [database, '--', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim().split(':')
    return { id: Number(fields[2]), gid: database === 'passwd' ? Number(fields[3]) : null }
  } catch {
    return number === null ? null : { id: number, gid: null }
  }
}

function unknown(kind: string, name: string): never { throw new DaybookError('ERR_USAGE', `--owner: there is no ${kind} ${name}`) }

/** "2026-11-20 13:47:00", with a T, without seconds or without a time: ms since 1970, in the zone of this process */
export function parseTime(option: string, text: string): number {
  const found = /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?$/.exec(text)
  const [year, month, day, hour = 0, minute = 0, second = 0] = (found ?? []).slice(1).map(part => part === undefined ? undefined : Number(part)) as number[]
  const date = found === null ? null : new Date(year, month - 1, day, hour, minute, second)
  const same = date !== null && date.getMonth() === month - 1 && date.getDate() === day && hour < 24 && minute < 60 && second < 60
  if (!same) throw new DaybookError('ERR_USAGE', `${option} ${text}: not a time`, 'example: 2026-11-20 13:47:00')
  return date.getTime()
}

/** "1.5 GiB" */
export function formatBytes(bytes: number): string {
  let unit = 0
  for (; bytes >= 1024 && unit < UNITS.length - 1; unit++) bytes /= 1024
  return unit === 0 ? `${Math.floor(bytes)} B` : `${bytes.toFixed(bytes < 10 ? 2 : bytes < 100 ? 1 : 0)} ${UNITS[unit]}iB`
}

/** "1:02:03", "2:03", "3.4 s" */
export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  const two = (n: number) => String(n).padStart(2, '0')
  const minutes = Math.floor(whole / 60)
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`
}
