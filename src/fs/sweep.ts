import { LRUCache } from 'lru-cache'
import { TreeRows } from '../format/tree-rows.js'
import type { Push } from '../native.js'
import { NO_TREE, VIRTUAL, type Directories } from './directories.js'
import { ZERO_CHUNK_ID } from './file-map.js'
import { fileNode } from './node-id.js'
import type { BlobId, BlobSource, PageCache, TreeSource } from './sources.js'
import type { TreeHandles } from './tree-handles.js'

/** Larger files are read-ahead's business once they are opened; only their first chunk is swept along. */
const WHOLE_FILE = 4 * 1024 * 1024
/** Bytes that may go to the page cache without a sign that somebody reads them: at first, and at most. */
const FIRST_CREDIT = 512 * 1024
const MAX_CREDIT = 32 * 1024 * 1024
/** What a file costs at least, so that a million empty files do not count as nothing. */
const FILE_COST = 4096
/** One file of so many, and of a quarter of the credit, is left out to learn of progress. */
const TRIPWIRE_FILES = 96
/** ms without a read or a listing after which a sweep is over */
const IDLE_MS = 15_000
const BATCH = 256
/** Files gathered at once at most. */
const MAX_PORTION = 4096
/** Of a larger file, so much is brought near with the others; the rest is read-ahead's business. */
const MAX_NEAR = 16 * 1024 * 1024

interface Swept {
  readonly handle: number
  readonly rows: TreeRows
  /** the kernel has seen the whole listing, so it takes contents for every file */
  known: boolean
  /** reads of this directory's files that reached us */
  reads: number
  /** next position to plan, and how many are left to plan (the sweep wraps around to those before the first read) */
  next: number
  left: number
  /** positions that were gathered and then not planned, for lack of memory or since the reader went elsewhere */
  refused: number[]
  /** positions whose blob waits in memory until the directory is listed */
  waiting: number[]
  waitingBytes: number
}

/** Files in the order in which they will be read, to be fetched: `positions[i]` in `swepts[i]`. */
interface Portion {
  readonly swepts: Swept[]
  readonly positions: number[]
  /** they are brought near first */
  readonly far: boolean
  /** so many have been planned */
  planned: number
  /** bytes of the others, as reachOf() counts them */
  bytes: number
  /** they are near, or nothing is to be gained from waiting for that */
  ready: boolean
}

/**
 * Small files, ahead of a reader that goes through directories (`cp -r`, `rsync`, `tar`, `grep -r`): once two files of a directory were read, the others
 * follow into the page cache before they are asked for; then the directories behind it in tree order are fetched and decoded, and pushed when
 * the kernel has listed them. A whole-directory copy so sends hardly a read request.
 *
 * There are two steps. Files are gathered in portions; over a far link these are long, and are brought near undecoded. What is near is planned: fetched and decoded,
 * as much as memory allows.
 *
 * Since what was pushed is never asked for, some files (tripwires) are left out; a read of one shows that the reader is still there, and doubles the
 * credit. A sweep without signs of life stops when its credit is used up, so a `find` behind a `cp` costs at most that.
 */
export class Sweep {
  readonly #trees: TreeSource
  readonly #blobs: BlobSource
  readonly #pages: PageCache
  readonly #handles: TreeHandles
  readonly #directories: Directories
  readonly #recent: LRUCache<number, Swept>
  /** instances listed lately */
  readonly #listed = new LRUCache<number, true>({ max: 4096 })
  /** instance under which a tree was last listed: where the directories behind it are */
  readonly #instances = new LRUCache<number, number>({ max: 4096 })
  /** trees the kernel has listed while no sweep was under way */
  readonly #listedTrees = new LRUCache<number, true>({ max: 8192 })
  readonly #tripwires = new Set<number>()
  /** the way to the directory planned last: in each tree, the next subdirectory to visit */
  #path: { rows: TreeRows, next: number }[] = []
  #credit = FIRST_CREDIT
  /** bytes pushed since the last sign of life */
  #unconfirmed = 0
  /** bytes asked for and not pushed yet */
  #outstanding = 0
  #sinceTripwire = 0
  #bytesSinceTripwire = 0
  #active = false
  #lastSign = 0
  #loading = false
  /** the directory the reader was seen in last */
  #front: Swept | null = null
  /** gathered, and not planned yet; the last one may be open for more */
  #portions: Portion[] = []
  #open: Portion | null = null
  #pumping = false
  #batch: Push[] = []
  /** blobs of which nothing is left to push once the batch has been */
  #whole: BlobId[] = []

  constructor(sources: { trees: TreeSource, blobs: BlobSource, pages: PageCache, handles: TreeHandles, directories: Directories }) {
    this.#trees = sources.trees
    this.#blobs = sources.blobs
    this.#pages = sources.pages
    this.#handles = sources.handles
    this.#directories = sources.directories
    this.#recent = new LRUCache<number, Swept>({ max: 2048, dispose: swept => { this.#outstanding -= swept.waitingBytes; swept.waitingBytes = 0; swept.waiting = [] } })
  }

  /** A read of a small file reached us: it was not pushed, or not in time. */
  read(handle: number, position: number, rows: Buffer): void {
    const now = Date.now()
    const swept = this.#sweptOf(handle, rows)
    swept.reads++
    const wasActive = this.#active && now - this.#lastSign < IDLE_MS
    if (this.#tripwires.delete(handle * 2 ** 24 + position)) this.#credit = Math.min(MAX_CREDIT, this.#credit * 2)
    this.#lastSign = now
    if (swept.reads < 2 && !wasActive) return
    if (!wasActive) {
      this.#active = true
      this.#credit = FIRST_CREDIT
    }
    this.#unconfirmed = 0
    if (swept.left === swept.rows.count) {
      swept.next = (position + 1) % swept.rows.count
      swept.left--
    }
    this.#pump(swept)
  }

  /** A listing begins. */
  listing(instance: number, handle: number): void {
    this.#instances.set(handle, instance)
    this.#listed.set(instance, true)
  }

  /** The kernel knows every file of this directory. */
  listed(handle: number): void {
    if (this.#active && Date.now() - this.#lastSign > IDLE_MS) this.#stop()
    let swept = this.#recent.get(handle)
    if (!this.#active) {
      // remembered for the case that its files are read: cheap, since a find lists everything and reads nothing
      if (swept !== undefined) swept.known = true
      else this.#listedTrees.set(handle, true)
      return
    }
    const expected = swept !== undefined
    if (swept === undefined) {
      const rows = this.#trees.peek(this.#handles.id(handle))
      if (rows === null) return
      swept = this.#sweptOf(handle, rows)
    }
    swept.known = true
    for (const position of swept.waiting) this.#take(swept, position)
    this.#outstanding -= swept.waitingBytes
    swept.waiting = []
    swept.waitingBytes = 0
    if (!expected) this.#redirect()
    this.#pump(swept)
  }

  #sweptOf(handle: number, rows: Buffer): Swept {
    let swept = this.#recent.get(handle)
    if (swept === undefined) {
      const view = new TreeRows(rows)
      swept = { handle, rows: view, known: this.#listedTrees.delete(handle), reads: 0, next: 0, left: view.count, refused: [], waiting: [], waitingBytes: 0 }
      this.#recent.set(handle, swept)
    }
    return swept
  }

  #stop(): void {
    this.#active = false
    this.#front = null
    this.#redirect()
    this.#tripwires.clear()
  }

  /** The reader is elsewhere: what was gathered waits until he comes back. */
  #redirect(): void {
    this.#path = []
    for (const { swepts, positions, planned } of this.#portions) for (let i = planned; i < positions.length; i++) swepts[i].refused.push(positions[i])
    this.#portions = []
    this.#open = null
  }

  /** Bytes that may be asked for and not pushed yet. Half of the source's budget: the other is for readers of large files, and to keep what waits from being evicted. */
  get #budget(): number { return Math.min(this.#credit, this.#blobs.aheadBudget / 2) }
  get #room(): boolean { return this.#outstanding < this.#budget && this.#unconfirmed < this.#credit * 2 }
  /** Bytes that may be gathered, planned and not pushed yet. */
  get #window(): number { return Math.max(this.#budget, Math.min(this.#credit * 2, this.#blobs.foresight)) }

  /** Gather and plan as much as credit and memory allow: the rest of `first`, then the directories behind it. */
  #pump(first: Swept): void {
    this.#front = first
    this.#gather(first)
    this.#planReady()
    this.#flush()
  }

  /** In portions: asking for one directory's files as soon as there is room for them would make a request of each. */
  #gather(first: Swept): void {
    let ahead = this.#outstanding
    for (const { bytes } of this.#portions) ahead += bytes
    const window = this.#window
    if (this.#open === null && ahead > window / 2 || this.#unconfirmed >= this.#credit * 2) return
    if (this.#open === null) this.#portions.push(this.#open = { swepts: [], positions: [], far: this.#blobs.foresight > 0, planned: 0, bytes: 0, ready: false })
    const portion = this.#open
    const limit = portion.bytes + window - ahead
    const full = () => portion.bytes >= limit || portion.positions.length >= MAX_PORTION
    let swept: Swept | null = unplanned(first) ? first : this.#nextAhead(first)
    while (swept !== null && !full()) {
      while (unplanned(swept) && !full()) gatherNext(swept, portion)
      if (!unplanned(swept)) swept = this.#nextAhead(first)
    }
    // While a tree is awaited there is more to come; but nobody is to wait for that.
    const hungry = this.#portions.length === 1 && this.#outstanding <= this.#budget / 2
    if (full() || !this.#loading || hungry || !portion.far) this.#prepare(portion)
  }

  #prepare(portion: Portion): void {
    this.#open = null
    if (portion.positions.length === 0) {
      this.#portions.pop()
      return
    }
    if (!portion.far) {
      portion.ready = true
      return
    }
    void this.#blobs.prepare(portion.positions.flatMap((position, i) => blobsNear(portion.swepts[i].rows, position))).then(() => {
      portion.ready = true
      if (this.#active && this.#front !== null) this.#pump(this.#front)
    })
  }

  #planReady(): void {
    if (!this.#room || this.#outstanding > this.#budget / 2) return
    while (this.#room && this.#portions[0]?.ready) {
      const [portion] = this.#portions
      const refused = this.#plan(portion)
      if (portion.planned === portion.positions.length) this.#portions.shift()
      if (refused) return
    }
  }

  /** Ask for the blobs of the next files. @returns was memory too short for some? */
  #plan(portion: Portion): boolean {
    const { swepts, positions } = portion
    const from = portion.planned
    const ids: BlobId[] = []
    let bytes = 0
    const limit = this.#budget - this.#outstanding
    while (portion.planned < positions.length && ids.length < BATCH && bytes < limit) {
      const { rows } = swepts[portion.planned]
      const position = positions[portion.planned++]
      ids.push(firstBlob(rows, position))
      bytes += costOf(rows, position)
      portion.bytes -= reachOf(rows, position, portion.far)
    }
    this.#outstanding += bytes
    let refused = false
    this.#blobs.fetch(ids, 'ahead', (index, blob) => {
      const swept = swepts[from + index]
      const position = positions[from + index]
      const cost = costOf(swept.rows, position)
      if (blob instanceof Error) {
        this.#arrived(cost)
        if ((blob as { code?: string }).code !== 'ERR_ABORTED') return
        refused = true
        swept.refused.push(position)
      } else if (swept.known) {
        this.#take(swept, position)
        this.#arrived(cost)
      } else if (this.#recent.peek(swept.handle) === swept) {
        swept.waiting.push(position)
        swept.waitingBytes += cost
      } else this.#arrived(cost)
    })
    return refused
  }

  /** Something has arrived: there may be room for more, long before the reader asks for what was not planned. */
  #arrived(cost: number): void {
    this.#outstanding -= cost
    if (!this.#active || this.#pumping || this.#front === null || this.#outstanding > this.#budget / 2) return
    this.#pumping = true
    setImmediate(() => {
      this.#pumping = false
      if (this.#active && this.#front !== null) this.#pump(this.#front)
    })
  }

  /** Into the page cache with this file, unless it is to be a tripwire. */
  #take({ handle, rows }: Swept, position: number): void {
    const size = rows.size(position)
    const id = rows.content(position).subarray(0, 32)
    const blob = this.#blobs.peek(id)
    if (blob === null) return
    this.#sinceTripwire++
    this.#bytesSinceTripwire += size
    if (this.#sinceTripwire >= TRIPWIRE_FILES || this.#bytesSinceTripwire > this.#credit / 4) {
      this.#sinceTripwire = 0
      this.#bytesSinceTripwire = 0
      this.#tripwires.add(handle * 2 ** 24 + position)
      return
    }
    // the node's size is what the kernel believes: never more than that, and of a longer file whole pages only
    const whole = rows.contentCount(position) === 1 && blob.length === size
    const length = whole ? size : Math.floor(Math.min(blob.length, size) / 4096) * 4096
    if (length === 0) return
    this.#unconfirmed += Math.max(FILE_COST, length)
    this.#batch.push([fileNode(handle, position, rows.hasXattrs(position)), 0, blob, 0, length])
    if (whole) this.#whole.push(id)
    if (this.#batch.length === 1) queueMicrotask(() => this.#flush())
    else if (this.#batch.length >= BATCH) this.#flush()
  }

  #flush(): void {
    if (this.#batch.length === 0) return
    const batch = this.#batch
    this.#batch = []
    // what the kernel has not taken yet is still in memory, though the source has given it away
    let bytes = 0
    for (const item of batch) bytes += item[4]
    this.#outstanding += bytes
    const whole = this.#whole
    this.#whole = []
    void this.#pages.push(batch).catch(() => 0).then(() => {
      // not before: who is faster than the push asks for it
      for (const id of whole) this.#blobs.drop(id)
      this.#arrived(bytes)
    })
  }

  /** The next directory in tree order behind the one planned last, fetched from the index; null if there is none, or not yet. */
  #nextAhead(from: Swept): Swept | null {
    if (this.#loading) return null
    if (this.#path.length === 0 && !this.#startPath(from)) return null
    while (this.#path.length > 0) {
      const top = this.#path[this.#path.length - 1]
      if (top.next >= top.rows.directoryPositions.length) { this.#path.pop(); continue }
      const id = top.rows.subtree(top.rows.directoryPositions[top.next])
      if (id === null) { top.next++; continue }
      const rows = this.#trees.peek(id)
      if (rows === null) {
        this.#loading = true
        this.#trees.load(id).catch(() => { top.next++ }).then(() => {
          this.#loading = false
          if (this.#active) this.#pump(from)
        })
        return null
      }
      top.next++
      const swept = this.#sweptOf(this.#handles.of(id), rows)
      this.#path.push({ rows: swept.rows, next: 0 })
      if (unplanned(swept)) return swept
    }
    return null
  }

  /** From a directory's place in its snapshot: its own subdirectories come next, then what is behind it in its parents. */
  #startPath(from: Swept): boolean {
    let instance = this.#instances.get(from.handle)
    if (instance === undefined) return false
    const path = [{ rows: from.rows, next: 0 }]
    for (;;) {
      const parent = this.#directories.parent(instance)
      const tree = this.#directories.exists(parent) ? this.#directories.tree(parent) : VIRTUAL
      if (tree === VIRTUAL || tree === NO_TREE) break
      const rows = this.#trees.peek(this.#handles.id(tree))
      if (rows === null) break
      const view = new TreeRows(rows)
      const ordinal = view.ordinal(this.#directories.position(instance))
      if (!this.#walksThrough(parent, ordinal)) break
      path.unshift({ rows: view, next: ordinal + 1 })
      instance = parent
    }
    this.#path = path
    return true
  }

  /** Is all of a directory being read, by somebody who is in its `ordinal`th subdirectory? So it seems if he has listed it, and the subdirectory before that one. */
  #walksThrough(instance: number, ordinal: number): boolean {
    return this.#listed.has(instance) && (ordinal === 0 || this.#listed.has(this.#directories.blockOf(instance) + ordinal - 1))
  }
}

function unplanned({ left, refused }: Swept): boolean { return left + refused.length > 0 }

/** Take the next file of a directory, if it has contents. */
function gatherNext(swept: Swept, portion: Portion): void {
  const { rows } = swept
  let position = swept.refused.shift()
  if (position === undefined) {
    position = swept.next
    swept.next = position + 1 === rows.count ? 0 : position + 1
    swept.left--
  }
  if (!rows.isRegular(position) || rows.contentCount(position) === 0 || ZERO_CHUNK_ID.equals(firstBlob(rows, position))) return
  portion.swepts.push(swept)
  portion.positions.push(position)
  portion.bytes += reachOf(rows, position, portion.far)
}

/** Of chunks of a MiB: no size of a blob is known here. */
function blobsNear(rows: TreeRows, position: number): Buffer[] {
  const content = rows.content(position)
  const count = Math.min(content.length / 32, Math.ceil(MAX_NEAR / 2 ** 20))
  return Array.from({ length: count }, (_, chunk) => content.subarray(chunk * 32, chunk * 32 + 32)).filter(id => !ZERO_CHUNK_ID.equals(id))
}

function firstBlob(rows: TreeRows, position: number): Buffer { return rows.content(position).subarray(0, 32) }
/** Bytes of a file in its portion: those that are brought near, or decoded. */
function reachOf(rows: TreeRows, position: number, far: boolean): number {
  return far ? Math.max(FILE_COST, Math.min(rows.size(position), MAX_NEAR)) : costOf(rows, position)
}
/** Bytes of a file in memory, once it is decoded. */
function costOf(rows: TreeRows, position: number): number { return Math.max(FILE_COST, Math.min(rows.size(position), WHOLE_FILE)) }
