/** A moment as restic records it: more exact than a Date. */
export interface Timestamp {
  /** ms since 1970, negative before */
  readonly ms: number
  /** nanoseconds within that ms: 0 to 999,999 */
  readonly ns: number
  /** offset of the zone it was recorded in, minutes east of UTC */
  readonly zoneMinutes: number
}

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/

/** RFC3339 with any number of fractional digits (Go's RFC3339Nano; digits behind the ninth are dropped). null if it is none. */
export function parseTimestamp(text: string): Timestamp | null {
  const match = RFC3339.exec(text)
  if (!match) return null
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number)
  if (hour > 23 || minute > 59 || second > 59) return null
  const date = new Date(0)
  // Not Date.UTC: it takes the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(year, month - 1, day)
  if (month < 1 || month > 12 || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return null
  date.setUTCHours(hour, minute, second)
  const zoneHours = Number(match[9] ?? 0)
  const zoneRest = Number(match[10] ?? 0)
  if (zoneHours > 23 || zoneRest > 59) return null
  const zoneMinutes = (match[8] === '-' ? -1 : 1) * (zoneHours * 60 + zoneRest) || 0
  const fraction = (match[7] ?? '').padEnd(9, '0')
  return { ms: date.getTime() - zoneMinutes * 60_000 + Number(fraction.slice(0, 3)), ns: Number(fraction.slice(3, 9)), zoneMinutes }
}

/** As Go writes a time (RFC3339Nano), in the zone of this process. @param ns nanoseconds within that ms */
export function formatTimestamp(ms: number, ns = 0): string {
  const date = new Date(ms)
  const zone = -date.getTimezoneOffset()
  const digits = (value: number, count = 2) => String(value).padStart(count, '0')
  const local = new Date(ms + zone * 60_000).toISOString().slice(0, -5)
  const fraction = (digits(date.getUTCMilliseconds(), 3) + digits(ns, 6)).replace(/0+$/, '')
  const offset = zone === 0 ? 'Z' : `${zone < 0 ? '-' : '+'}${digits(Math.floor(Math.abs(zone) / 60))}:${digits(Math.abs(zone) % 60)}`
  return `${local}${fraction && `.${fraction}`}${offset}`
}
