import { BLOB_OVERHEAD } from '../format/limits.js'
import type { BlobLocation } from '../index/index.js'

/** Limits of a plan, in bytes. What is best depends on what a request costs. */
export interface PlanLimits {
  /** bytes nobody wants that are read rather than starting another read */
  readonly maxGap: number
  /** longest read, unless a single blob is longer */
  readonly maxRange: number
  /** of all gaps bridged, the bytes at most, as a share of those wanted: the shortest ones are */
  readonly maxSurplus: number
  /** most bytes of plaintext out of one read, unless a single blob has more: what compresses well is read in shorter pieces */
  readonly maxPlain: number
  /** longest first read of a pack; each following one may be twice as long, so that decoding begins early */
  readonly firstRange: number
}

/** A request costs microseconds; short reads let the decoding of one overlap with the next, and need little memory. */
export const LOCAL_LIMITS: PlanLimits = { maxGap: 64 << 10, maxSurplus: Infinity, maxRange: 1 << 20, maxPlain: 4 << 20, firstRange: 1 << 20 }
/** Of a cache: what lies between two blobs that are there may not be. */
export const NEAR_LIMITS: PlanLimits = { ...LOCAL_LIMITS, maxGap: 0 }
/**
 * A request costs a round trip: as long as half a MiB or more takes to arrive. But what is bridged is paid for by whoever pays for the link.
 * Ranges no longer than the budgets of the loaders let several be under way.
 */
export const REMOTE_LIMITS: PlanLimits = { maxGap: 1 << 20, maxSurplus: 1 / 8, maxRange: 2 << 20, maxPlain: 8 << 20, firstRange: 1 << 20 }
/** Trees: what lies between two is another day's, and looked at next. */
export const REMOTE_TREE_LIMITS: PlanLimits = { ...REMOTE_LIMITS, maxGap: 512 << 10, maxSurplus: Infinity }
/** Not decoded, so it does not matter how much it decodes to. */
export const AHEAD_LIMITS: PlanLimits = { ...REMOTE_LIMITS, maxRange: 4 << 20, maxPlain: Infinity, firstRange: 4 << 20 }

/** Where most of a stretch of a pack is wanted, gaps this many times as long are bridged, so that a pack wanted nearly whole is read whole. */
const DENSE_GAP_FACTOR = 8
const DENSE_SHARE = 0.75

export interface PlannedRead {
  readonly pack: number
  readonly offset: number
  readonly length: number
  /** numbers of wanted blobs, ascending by offset */
  readonly members: number[]
  /** of each member, the copy to take */
  readonly locations: BlobLocation[]
}

/** Bytes of plaintext, as the index has it. */
export function plainLength(location: BlobLocation): number {
  return location.plainLength > 0 ? location.plainLength : location.length - BLOB_OVERHEAD
}

/**
 * Which ranges of which packs to read for these blobs: grouped by pack, by offset, gaps bridged, long ranges split.
 * `wanted[i]` are the copies of one blob, best first; of several, the one that shares a read with others is taken.
 * Each wanted blob that has a copy is a member of exactly one read. Reads come in the order in which their first member was wanted.
 */
export function planReads(wanted: readonly (readonly BlobLocation[])[], limits: PlanLimits): PlannedRead[] {
  const chosen = chooseCopies(wanted, limits.maxGap)
  const reads: { read: PlannedRead, first: number }[] = []
  const groups = groupByPack(chosen)
  for (const members of groups.values()) sortByOffset(members, chosen)
  const affordable = longestAffordable(groups.values(), chosen, limits)
  for (const [pack, members] of groups) planPack(pack, members, Math.min(affordable, longestGap(members, chosen, limits.maxGap)), chosen, limits, reads)
  if (reads.length > 1) reads.sort((a, b) => a.first - b.first)
  return reads.map(({ read }) => read)
}

type Chosen = (BlobLocation | undefined)[]

function groupByPack(chosen: Chosen): Map<number, number[]> {
  const groups = new Map<number, number[]>()
  let pack: number | undefined
  let group: number[] = []
  for (let i = 0; i < chosen.length; i++) {
    const location = chosen[i]
    if (location === undefined) continue
    if (location.pack !== pack) {
      pack = location.pack
      const known = groups.get(pack)
      if (known === undefined) groups.set(pack, group = [])
      else group = known
    }
    group.push(i)
  }
  return groups
}

/** `members` by offset. @param bridge the longest gap to bridge */
function planPack(pack: number, members: number[], bridge: number, chosen: Chosen, limits: PlanLimits, out: { read: PlannedRead, first: number }[]): void {
  let limit = Math.min(limits.firstRange, limits.maxRange)
  for (let i = 0; i < members.length;) {
    const { offset, length } = chosen[members[i]]!
    let end = offset + length
    let first = members[i]
    let plain = plainLength(chosen[first]!)
    let next = i + 1
    for (; next < members.length; next++) {
      const location = chosen[members[next]]!
      const nextEnd = Math.max(end, location.offset + location.length)
      plain += plainLength(location)
      if (location.offset - end > bridge || nextEnd - offset > limit || plain > limits.maxPlain) break
      end = nextEnd
      if (members[next] < first) first = members[next]
    }
    const taken = i === 0 && next === members.length ? members : members.slice(i, next)
    out.push({ read: { pack, offset, length: end - offset, members: taken, locations: taken.map(member => chosen[member]!) }, first })
    i = next
    limit = Math.min(limit * 2, limits.maxRange)
  }
}

// What is read in order is mostly stored in order, so the check saves the sort.
function sortByOffset(members: number[], chosen: Chosen): void {
  for (let i = 1; i < members.length; i++) {
    if (chosen[members[i]]!.offset < chosen[members[i - 1]]!.offset) {
      members.sort((a, b) => chosen[a]!.offset - chosen[b]!.offset)
      return
    }
  }
}

/** The longest gap so that all that are as long or shorter, together, are within the surplus. */
function longestAffordable(groups: Iterable<number[]>, chosen: Chosen, { maxGap, maxSurplus }: PlanLimits): number {
  if (maxSurplus === Infinity) return Infinity
  let wanted = 0
  const gaps: number[] = []
  for (const members of groups) {
    let end = Infinity
    for (const member of members) {
      const { offset, length } = chosen[member]!
      wanted += length
      if (offset > end && offset - end <= maxGap * DENSE_GAP_FACTOR) gaps.push(offset - end)
      end = offset + length
    }
  }
  gaps.sort((a, b) => a - b)
  let left = wanted * maxSurplus
  for (const [i, gap] of gaps.entries()) {
    left -= gap
    if (left < 0) return gaps.findLast((shorter, at) => at < i && shorter < gap) ?? 0
  }
  return Infinity
}

function longestGap(members: number[], chosen: Chosen, maxGap: number): number {
  let bytes = 0
  for (const member of members) bytes += chosen[member]!.length
  const last = chosen[members[members.length - 1]]!
  const span = last.offset + last.length - chosen[members[0]]!.offset
  return bytes >= span * DENSE_SHARE ? maxGap * DENSE_GAP_FACTOR : maxGap
}

/** Blobs with one copy decide which packs are read; those with several join them, else they gather in the pack that holds most of them. */
function chooseCopies(wanted: readonly (readonly BlobLocation[])[], maxGap: number): Chosen {
  const chosen: Chosen = new Array(wanted.length)
  const undecided: number[] = []
  for (let i = 0; i < wanted.length; i++) {
    chosen[i] = wanted[i][0]
    if (wanted[i].length > 1) undecided.push(i)
  }
  if (undecided.length === 0) return chosen

  for (const i of undecided) chosen[i] = undefined
  const decided = groupByPack(chosen)
  for (const members of decided.values()) sortByOffset(members, chosen)
  const candidates = new Map<number, number>()
  for (const i of undecided) {
    for (const { pack } of wanted[i]) candidates.set(pack, (candidates.get(pack) ?? 0) + 1)
  }
  // `chosen` grows below, the groups do not: a blob joins what was certain, not another guess.
  for (const i of undecided) {
    let best = wanted[i][0]
    let bestScore = -1
    for (const location of wanted[i]) {
      const members = decided.get(location.pack)
      const shares = members !== undefined && distance(members, chosen, location) <= maxGap
      const score = (shares ? wanted.length + 1 : 0) + candidates.get(location.pack)!
      if (score > bestScore) {
        best = location
        bestScore = score
      }
    }
    chosen[i] = best
  }
  return chosen
}

/** Bytes between a range and the nearest of the members, which are sorted by offset. */
function distance(members: number[], chosen: Chosen, { offset, length }: BlobLocation): number {
  let low = 0
  let high = members.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (chosen[members[middle]]!.offset < offset) low = middle + 1
    else high = middle
  }
  const behind = low < members.length ? chosen[members[low]]!.offset - (offset + length) : Infinity
  const before = low > 0 ? chosen[members[low - 1]]! : undefined
  return Math.min(behind, before === undefined ? Infinity : offset - (before.offset + before.length))
}
