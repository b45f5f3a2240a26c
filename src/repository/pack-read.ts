import type { BlobLocation } from '../index/index.js'
import { plainLength } from './fetch-plan.js'

/** Called once per blob that was wanted, with the number it was given then. */
export type OnItem<T> = (index: number, item: T | Error) => void

/** A blob somebody waits for. One object for all who wait, no promise and no closure: there are tens of thousands of these per second. */
export class WantedBlob<T> {
  /** the read it is a member of */
  read: Read<T> | null = null
  /** copies that failed */
  tried: BlobLocation[] | null = null
  /** the repository has been looked at again: no further chance */
  lastRound = false
  /** so many sources of the copy being tried gave wrong bytes */
  again = 0
  failure: Error | null = null
  /** further ones who wait: callback, index, callback, index, ... */
  others: (OnItem<T> | number)[] | null = null

  constructor(
    readonly key: string,
    /** copies not tried yet */
    public locations: readonly BlobLocation[],
    /** bytes of plaintext */
    readonly bytes: number,
    public ahead: boolean,
    readonly onItem: OnItem<T>,
    readonly index: number,
  ) {}
}

/** A range of a pack to be read. */
export class Read<T> {
  started = false
  /** not to be part of a group: as part of one it could not be had */
  alone = false
  /** see ReadOptions */
  again = 0
  /** bytes it holds while it is under way */
  readonly cost: number

  /** @param near the backend has it at hand: it needs no connection */
  constructor(readonly pack: number, readonly offset: number, readonly length: number, readonly members: WantedBlob<T>[], readonly locations: BlobLocation[],
    public ahead: boolean, public near: boolean) {
    let cost = length
    for (let i = 0; i < members.length; i++) {
      members[i].read = this
      cost += plainLength(locations[i])
    }
    this.cost = cost
  }
}

/** Reads that compete for the same thing, and what is under way of them. */
export class Lane<T> {
  readonly demand: Read<T>[] = []
  readonly ahead: Read<T>[] = []
  /** groups being read */
  reading = 0
  /** bytes of what is being read or decoded */
  bytes = 0
  demandUnderWay = 0

  queue(ahead: boolean): Read<T>[] { return ahead ? this.ahead : this.demand }

  clear(): void { this.demand.length = this.ahead.length = 0 }
}

/** Members from..to-1 of a read, as a read of its own. */
export function part<T>(read: Read<T>, from: number, to: number): Read<T> | null {
  if (from >= to) return null
  const locations = read.locations.slice(from, to)
  const { offset } = locations[0]
  let end = offset
  for (const location of locations) end = Math.max(end, location.offset + location.length)
  return new Read(read.pack, offset, end - offset, read.members.slice(from, to), locations, read.ahead, read.near)
}
