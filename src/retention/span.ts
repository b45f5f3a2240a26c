import { DaybookError } from '../errors.js'
import type { Snapshot } from '../format/snapshot.js'

/** A stretch of the calendar, as restic's "1y5m7d2h". */
export interface Span { readonly years: number, readonly months: number, readonly days: number, readonly hours: number }

/** When something was, and in which zone that was written down. */
export type Moment = Pick<Snapshot, 'time' | 'timeMs' | 'timeNs' | 'zoneMinutes'>

const UNITS = { y: 'years', m: 'months', d: 'days', h: 'hours' } as const

/** "1y5m7d2h", in any order; of a unit given twice the last counts, as with restic. null: as good as none. @throws DaybookError ERR_USAGE */
export function parseSpan(option: string, text: string): Span | null {
  const span = { years: 0, months: 0, days: 0, hours: 0 }
  const trimmed = text.trim()
  if (!/^(\d+[ymdh])*$/.test(trimmed)) throw new DaybookError('ERR_USAGE', `${option} ${text}: not a duration`, 'examples: 30d, 1y6m, 7d12h (y years, m months, d days, h hours)')
  for (const [, number, unit] of trimmed.matchAll(/(\d+)([ymdh])/g)) span[UNITS[unit as keyof typeof UNITS]] = Number(number)
  return Object.values(span).every(number => number === 0) ? null : span
}

/** As restic prints it. */
export function formatSpan({ years, months, days, hours }: Span): string {
  return [[years, 'y'], [months, 'm'], [days, 'd'], [hours, 'h']].filter(([number]) => number !== 0).map(([number, unit]) => `${number}${unit}`).join('')
}

/**
 * The moment a span earlier, ms since 1970 (the nanoseconds stay): first the calendar (31 March less a month is 3 March), then the hours.
 *
 * Go's time arithmetic, to the hour: a time that was written in the zone of this process follows its daylight saving time, one of another zone
 * keeps its distance from UTC. -Infinity for what no calendar holds: a span that long includes everything.
 */
export function earlier(moment: Moment, { years, months, days, hours }: Span): number {
  const zone = moment.zoneMinutes
  const wall = new Date(moment.timeMs + zone * 60_000)
  const moved = wall.setUTCFullYear(wall.getUTCFullYear() - years, wall.getUTCMonth() - months, wall.getUTCDate() - days)
  // "Z" is UTC to Go also where this process is in London in winter.
  const isLocal = !/z$/i.test(moment.time) && offsetAt(moment.timeMs) === zone
  const ms = (isLocal ? fromLocalWall(moved) : moved - zone * 60_000) - hours * 3_600_000
  return Number.isNaN(ms) ? -Infinity : ms
}

/** Where clocks are changed, a time of the wall may be none or two: chosen as Go's time.Date chooses. */
function fromLocalWall(wallMs: number): number {
  const guess = offsetAt(wallMs)
  const utc = wallMs - guess * 60_000
  return wallMs - offsetAt(utc) * 60_000
}

/** Minutes east of UTC, in the zone of this process. */
function offsetAt(ms: number): number { return -new Date(ms).getTimezoneOffset() }
