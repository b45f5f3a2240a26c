import { parseTimestamp } from '../format/time.js'

/**
 * Tags that mean something to `forget`. They are plain tags: restic shows them, sets them (`restic tag --add locked ID`) and keeps them, and its own
 * `forget` heeds them with `--keep-tag locked`.
 *   locked                 never removed, until the tag is taken off
 *   keep-until=2027-06-30  not removed before that day is over (local time); or before a moment: keep-until=2027-06-30T12:00:00Z
 *   incomplete             something was missing: never the reason why a better one goes
 */
const LOCKED = 'locked'
const INCOMPLETE = 'incomplete'
const KEEP_UNTIL = 'keep-until='

interface Tagged { readonly tags: readonly string[] }

/** Why this snapshot must not be removed now; null: it may be. A date that cannot be understood locks for good: somebody wanted it kept. */
export function lockedBy({ tags }: Tagged, nowMs: number): string | null {
  return tags.find(tag => tag === LOCKED || tag.startsWith(KEEP_UNTIL) && nowMs < endOf(tag.slice(KEEP_UNTIL.length))) ?? null
}

export function isComplete({ tags }: Tagged): boolean { return !tags.includes(INCOMPLETE) }

/** A mark says nothing about what a snapshot is of: it stays in its group. */
export function isMark(tag: string): boolean { return tag === LOCKED || tag === INCOMPLETE || tag.startsWith(KEEP_UNTIL) }

function endOf(text: string): number {
  const day = /^(\d{4})-(\d\d)-(\d\d)$/.exec(text)
  if (!day) return parseTimestamp(text)?.ms ?? Infinity
  const [year, month, date] = day.slice(1).map(Number)
  const known = new Date(year, month - 1, date)
  return known.getMonth() === month - 1 && known.getDate() === date ? new Date(year, month - 1, date + 1).getTime() : Infinity
}
