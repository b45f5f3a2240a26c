import type { Time } from '../format/tree-rows.js'

const two = (n: number) => String(n).padStart(2, '0')
/** of a Date, either way from 1970 */
const MAX_SECONDS = 8_640_000_000_000n

/** "2026-11-20 13:47:00", in the zone of this process */
export function localTime(ms: number): string {
  const date = new Date(ms)
  return `${String(date.getFullYear()).padStart(4, '0')}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

const UNITS = [['day', 86_400_000], ['hour', 3_600_000], ['minute', 60_000], ['second', 1000]] as const

/** "3 hours": how long, in whole units of one kind */
export function duration(ms: number): string {
  const [unit, length] = UNITS.find(([, length]) => ms >= 2 * length) ?? UNITS[UNITS.length - 1]
  const count = Math.max(0, Math.floor(ms / length))
  return `${count} ${unit}${count === 1 ? '' : 's'}`
}

/** A time that no calendar holds is shown as `date -d` takes it: @seconds. */
export function localFileTime([seconds]: Time): string {
  return inCalendar(seconds) ? localTime(Number(seconds) * 1000) : `@${seconds}`
}

/** RFC 3339 with nanoseconds, in UTC */
export function exactTime([seconds, nanoseconds]: Time): string {
  const fraction = String(nanoseconds).padStart(9, '0')
  return inCalendar(seconds) ? new Date(Number(seconds) * 1000).toISOString().replace('000Z', `${fraction}Z`) : `@${seconds}.${fraction}`
}

function inCalendar(seconds: bigint): boolean { return seconds >= -MAX_SECONDS && seconds <= MAX_SECONDS }
