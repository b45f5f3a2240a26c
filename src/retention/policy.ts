import type { Snapshot } from '../format/snapshot.js'
import { hasTags } from '../repository/filter.js'
import { isComplete, lockedBy } from './marks.js'
import { earlier, formatSpan, type Moment, type Span } from './span.js'

/** The terms of restic that count: how many at most, Infinity for all, 0 for none. */
export const COUNTED = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const
/** Those that look back from the newest snapshot. */
export const WITHIN = ['within', 'withinHourly', 'withinDaily', 'withinWeekly', 'withinMonthly', 'withinYearly'] as const
/** daybook's own. */
export const CALENDAR = ['days', 'lastOfMonth', 'lastOfYear'] as const

/** Which snapshots of a group are kept: those for which any term speaks. */
export type Policy = Readonly<Record<typeof COUNTED[number], number> & Record<typeof WITHIN[number], Span | null> & Record<typeof CALENDAR[number], number>> & {
  /** any of these lists, of each list every tag */
  readonly tags: readonly (readonly string[])[]
}

export const NO_POLICY: Policy = {
  last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, within: null, withinHourly: null, withinDaily: null, withinWeekly: null, withinMonthly: null, withinYearly: null,
  days: 0, lastOfMonth: 0, lastOfYear: 0, tags: [],
}

export type Expirable = Moment & Pick<Snapshot, 'tags'>

export interface Kept<T> {
  readonly snapshot: T
  /** why, in restic's words where the term is restic's */
  readonly reasons: readonly string[]
}

export interface Verdict<T> {
  /** newest first */
  readonly keep: readonly Kept<T>[]
  readonly remove: readonly T[]
}

export function isEmptyPolicy(policy: Policy): boolean {
  return policy.tags.length === 0 && [...COUNTED, ...CALENDAR].every(term => policy[term] === 0) && WITHIN.every(term => policy[term] === null)
}

/**
 * Divide the snapshots of one group. restic's terms mean what they mean to restic, its peculiarities included: periods are those of the zone that each snapshot
 * was written in, a term that still counts keeps the oldest snapshot too, and "within" looks back from the newest snapshot, not from now.
 *
 * Whatever the policy says, what is locked stays, and so does the newest complete snapshot if no complete one would be left (where none is complete, the newest).
 * @param snapshots in any order; those of the same moment stay in theirs
 */
export function applyPolicy<T extends Expirable>(snapshots: readonly T[], policy: Policy, nowMs: number): Verdict<T> {
  const list = [...snapshots].sort((a, b) => b.timeMs - a.timeMs || b.timeNs - a.timeNs)
  if (list.length === 0) return { keep: [], remove: [] }
  const reasons = list.map((): string[] => [])
  const newest = list.find(({ timeMs }) => timeMs < nowMs) ?? null
  const context = { list, newest, policy, reasons }
  keepTagged(context)
  keepWithin(context)
  keepCounted(context)
  keepWithinPeriods(context)
  keepCalendar(context)
  for (const [i, snapshot] of list.entries()) {
    const lock = lockedBy(snapshot, nowMs)
    if (lock !== null) reasons[i].push(lock)
  }
  if (!list.some((snapshot, i) => reasons[i].length > 0 && isComplete(snapshot))) {
    const last = list.findIndex(isComplete)
    if (last >= 0) reasons[last].push('last complete snapshot')
    else if (reasons.every(found => found.length === 0)) reasons[0].push('last snapshot there is')
  }
  return {
    keep: list.flatMap((snapshot, i) => reasons[i].length > 0 ? [{ snapshot, reasons: reasons[i] }] : []),
    remove: list.filter((_, i) => reasons[i].length === 0),
  }
}

interface Context {
  /** newest first */
  readonly list: readonly Expirable[]
  /** that is not in the future; null: all are, and every term that looks back reaches all of them */
  readonly newest: Expirable | null
  readonly policy: Policy
  /** of each of the list, to be added to */
  readonly reasons: string[][]
}

function keepTagged({ list, policy, reasons }: Context): void {
  for (const [i, snapshot] of list.entries()) {
    for (const tags of policy.tags) if (hasTags(snapshot, tags)) reasons[i].push(`has tags [${tags.join(', ')}]`)
  }
}

function keepWithin({ list, newest, policy: { within }, reasons }: Context): void {
  if (within === null) return
  for (let i = 0, count = countWithin(list, newest, within); i < count; i++) reasons[i].push(`within ${formatSpan(within)}`)
}

const PERIODS = { hourly: hourOf, daily: dayOf, weekly: weekOf, monthly: monthOf, yearly: yearOf } as const

function keepCounted({ list, policy, reasons }: Context): void {
  for (const term of COUNTED) {
    const periodOf = term === 'last' ? null : PERIODS[term]
    keepHeads(list, list.length, policy[term], periodOf, (i, oldest) => reasons[i].push(`${oldest ? 'oldest ' : ''}${term} snapshot`))
  }
}

function keepWithinPeriods({ list, newest, policy, reasons }: Context): void {
  for (const period of ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const) {
    const span = policy[`within${period[0].toUpperCase()}${period.slice(1)}` as 'withinHourly']
    if (span === null) continue
    keepHeads(list, countWithin(list, newest, span), Infinity, PERIODS[period], (i, oldest) => reasons[i].push(`${oldest ? 'oldest ' : ''}${period} within ${formatSpan(span)}`))
  }
}

/**
 * The newest of each period, `limit` at most, among the first `count` of the list; and the oldest of all, if it is reached with something left of the limit.
 * A period ends where another begins beside it: restic does not look further back.
 */
function keepHeads(list: readonly Expirable[], count: number, limit: number, periodOf: ((wall: Date) => number) | null, keep: (i: number, oldest: boolean) => void): void {
  let left = limit
  let before: number | null = null
  for (let i = 0; i < count && left > 0; i++) {
    const period = periodOf?.(wallOf(list[i])) ?? i
    if (period === before && i < list.length - 1) continue
    keep(i, period === before)
    before = period
    left--
  }
}

/** How many are younger than that, seen from the newest: they are the first of the list. */
function countWithin(list: readonly Expirable[], newest: Expirable | null, span: Span): number {
  if (newest === null) return list.length
  const ms = earlier(newest, span)
  const end = list.findIndex(({ timeMs, timeNs }) => timeMs < ms || timeMs === ms && timeNs <= newest.timeNs)
  return end < 0 ? list.length : end
}

/**
 * Days, months and years of the calendar, counted back from the newest snapshot: where backups have stopped, nothing expires. Of a month or year the last complete
 * snapshot is kept, or the last where none is complete; that of the present one too, and besides the number: it would not be there at the end of the month otherwise.
 */
function keepCalendar({ list, newest, policy, reasons }: Context): void {
  const from = newest ?? list[list.length - 1]
  const today = dayOf(wallOf(from))
  const keepLastOf = (unit: string, limit: number, periodOf: (wall: Date) => number) => {
    const now = periodOf(wallOf(from))
    const last = new Map<number, number>()
    for (const [i, snapshot] of list.entries()) {
      const period = periodOf(wallOf(snapshot))
      if (period < now - limit) continue
      const other = last.get(period)
      if (other === undefined || !isComplete(list[other]) && isComplete(snapshot)) last.set(period, i)
    }
    for (const i of last.values()) reasons[i].push(`last of ${unit}`)
  }
  if (policy.days > 0) {
    for (const [i, snapshot] of list.entries()) if (dayOf(wallOf(snapshot)) >= today - policy.days) reasons[i].push(`within ${policy.days} days`)
  }
  if (policy.lastOfMonth > 0) keepLastOf('month', policy.lastOfMonth, monthOf)
  if (policy.lastOfYear > 0) keepLastOf('year', policy.lastOfYear, yearOf)
}

const DAY_MS = 86_400_000

/** A Date whose UTC fields are what the clock on the wall showed. */
function wallOf({ timeMs, zoneMinutes }: Moment): Date { return new Date(timeMs + zoneMinutes * 60_000) }

function hourOf(wall: Date): number { return Math.floor(wall.getTime() / 3_600_000) }
function dayOf(wall: Date): number { return Math.floor(wall.getTime() / DAY_MS) }
/** ISO weeks begin on Monday, and 1970 began on a Thursday; numbered without a gap, so also over the turn of a year. */
function weekOf(wall: Date): number { return Math.floor((dayOf(wall) + 3) / 7) }
function monthOf(wall: Date): number { return wall.getUTCFullYear() * 12 + wall.getUTCMonth() }
function yearOf(wall: Date): number { return wall.getUTCFullYear() }
