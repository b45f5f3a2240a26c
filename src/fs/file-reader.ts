import { LRUCache } from 'lru-cache'
import type { NativeBlob, Push } from '../native.js'
import { FileMap, ZERO_CHUNK_ID } from './file-map.js'
import { FsError } from './fs-error.js'
import type { BlobSource, PageCache, ReadPart } from './sources.js'

const PAGE = 4096
/** Most chunks read ahead of a sequential reader, whatever their size; about 1 MiB each. */
const MAX_WINDOW = 24
/** A chunk so far behind a sequential reader is needed no more: the kernel's requests overtake each other, but not by that much. */
const KEPT_BEHIND = 3
/** Bytes handed to the page cache but not taken yet, above which no more are. */
const MAX_PUSHING = 3 * 1024 * 1024

const NOT_PUSHED = 0, PUSHED = 1, ON_ITS_WAY = 2

/** One file being read. */
interface OpenFile {
  readonly node: number
  readonly map: FileMap
  /** chunk in which the reader is expected next; -1 before the first read */
  expected: number
  /** chunks to have ready ahead; 0 while the pattern is random */
  window: number
  /** first chunk that read-ahead has not asked for */
  planned: number
  /** first chunk that was not brought near, and first one of which that is not known to be done; both 0 where there is no such thing */
  foreseen: number
  near: number
  /** per chunk: in the page cache? */
  readonly pushed: Uint8Array
}

/** Blobs of a request by chunk, kept from being freed. */
type Held = Map<number, NativeBlob>

/**
 * Contents of files, answered from decoded blobs.
 *
 * To a sequential reader the kernel's own read-ahead brings the pages, in requests of up to 1 MiB that are under way while the reader is busy; we only have the
 * next chunks decoded before it asks. Pushing them as well would be a race for the same pages: measured on 500 MB, it copied 1.2 GB more and was twice as slow.
 * A random reader asks for a page or two of a chunk that had to be decoded whole: there the rest of the chunk is pushed, so no chunk is decoded again for its neighbours.
 *
 * Chunks do not end on page boundaries and the kernel takes whole pages only, so the page that two chunks share is pushed with whichever of them comes second.
 */
export class FileReader {
  readonly #blobs: BlobSource
  readonly #pages: PageCache
  readonly #files = new LRUCache<number, OpenFile>({ max: 512, maxSize: 8 * 1024 * 1024, sizeCalculation: file => 256 + file.map.count * 9 })
  /** maps of long files being made */
  readonly #building = new Map<number, Promise<OpenFile>>()
  #pushing = 0

  constructor(blobs: BlobSource, pages: PageCache) {
    this.#blobs = blobs
    this.#pages = pages
  }

  /** Where the next data or hole begins, at or behind `offset`; -1: there is none (ENXIO). */
  seek(node: number, ids: Buffer, offset: number, what: 'data' | 'hole'): number | Promise<number> {
    const file = this.#open(node, ids)
    return file instanceof Promise ? file.then(file => file.map.seek(offset, what)) : file.map.seek(offset, what)
  }

  /** Bytes [offset, offset + size) or less at the end of the file, as parts of blobs, to be used in this turn of the event loop. */
  read(node: number, ids: Buffer, offset: number, size: number): ReadPart[] | Promise<ReadPart[]> {
    const file = this.#open(node, ids)
    return file instanceof Promise ? file.then(file => this.#readFile(file, offset, size)) : this.#readFile(file, offset, size)
  }

  #open(node: number, ids: Buffer): OpenFile | Promise<OpenFile> {
    const known = this.#files.get(node) ?? this.#building.get(node)
    if (known !== undefined) return known
    const map = FileMap.build(ids, id => this.#blobs.length(id))
    if (map instanceof FileMap) return this.#keep(node, map)
    const building = this.#build(node, ids, map).finally(() => this.#building.delete(node))
    this.#building.set(node, building)
    return building
  }

  /** A blob the index does not know may be one of a new snapshot, or have moved: look once more before giving up. */
  async #build(node: number, ids: Buffer, first: null | Promise<FileMap | null>): Promise<OpenFile> {
    const build = () => FileMap.build(ids, id => this.#blobs.length(id))
    let map = await first
    // while the index is still being filled: wait for what this file needs, not for all of it
    for (let unknown = this.#firstUnknown(ids); map === null && unknown !== null; unknown = this.#firstUnknown(ids)) {
      await this.#blobs.located(unknown)
      if (this.#blobs.length(unknown) < 0) break
      map = await build()
    }
    map ??= await this.#blobs.refresh() ? await build() : null
    if (map === null) throw new FsError('EIO', 'a blob of the file is in no index file')
    return this.#keep(node, map)
  }

  #firstUnknown(ids: Buffer): Buffer | null {
    for (let at = 0; at < ids.length; at += 32) {
      const id = ids.subarray(at, at + 32)
      if (!ZERO_CHUNK_ID.equals(id) && this.#blobs.length(id) < 0) return id
    }
    return null
  }

  #keep(node: number, map: FileMap): OpenFile {
    const file = { node, map, expected: -1, window: 0, planned: 0, foreseen: 0, near: 0, pushed: new Uint8Array(map.count) }
    this.#files.set(node, file)
    return file
  }

  #readFile(file: OpenFile, offset: number, size: number): ReadPart[] | Promise<ReadPart[]> {
    const { map } = file
    const end = Math.min(offset + size, map.size)
    if (offset >= end) return []
    const first = map.chunkAt(offset)
    const last = map.chunkAt(end - 1)
    this.#observe(file, first, last)
    const parts = this.#parts(file, first, last, offset, end)
    if (parts !== null) {
      this.#afterRead(file, first, last, offset, end)
      return parts
    }
    return this.#load(file, first, last, offset, end)
  }

  /** Parts from memory, or of the blobs held; null if one is missing. */
  #parts({ map }: OpenFile, first: number, last: number, offset: number, end: number, held?: Held): ReadPart[] | null {
    const parts: ReadPart[] = []
    for (let chunk = first; chunk <= last; chunk++) {
      const from = Math.max(offset, map.start(chunk))
      const to = Math.min(end, map.end(chunk))
      if (from >= to) continue
      const blob = map.isHole(chunk) ? null : held?.get(chunk) ?? this.#blobs.peek(map.id(chunk))
      if (blob === null && !map.isHole(chunk)) return null
      parts.push(blob, from - map.start(chunk), to - from)
    }
    return parts
  }

  /**
   * A blob that arrives is there for this turn only: while many read at random, others push it out of the source's memory at once. So the answer holds on to each blob
   * until it has been made.
   */
  #load(file: OpenFile, first: number, last: number, offset: number, end: number): Promise<ReadPart[]> {
    const { map } = file
    const chunks: number[] = []
    for (let chunk = first; chunk <= last; chunk++) if (!map.isHole(chunk)) chunks.push(chunk)
    const held: Held = new Map()
    let failed = false
    const release = () => { for (const blob of held.values()) blob.free() }
    const loaded = new Promise<void>((resolve, reject) => {
      this.#blobs.fetch(chunks.map(chunk => map.id(chunk)), 'demand', (index, blob) => {
        if (failed) return
        if (blob instanceof Error) {
          failed = true
          release()
          return reject(blob)
        }
        held.set(chunks[index], blob.share())
        if (held.size === chunks.length) resolve()
      })
    })
    this.#readAhead(file, last)
    return loaded.then(() => {
      const parts = this.#parts(file, first, last, offset, end, held)!
      this.#afterRead(file, first, last, offset, end, held)
      setImmediate(release)
      return parts
    })
  }

  /** Sequential or random? The kernel's own read-ahead arrives out of order, so a neighbour counts as next. */
  #observe(file: OpenFile, first: number, last: number): void {
    if (file.map.count < 2) return
    if (file.expected === -1) file.window = first <= 1 ? 2 : 0
    else if (Math.abs(first - file.expected) <= 1) {
      // reads within one chunk prove nothing new
      if (last > file.expected) file.window = Math.min(MAX_WINDOW, Math.max(2, file.window * 2))
    } else {
      file.window = first > file.expected && first < file.planned ? file.window : 0
      file.planned = file.foreseen = file.near = 0
    }
    file.expected = last
  }

  /** The answer is about to go out. */
  #afterRead(file: OpenFile, first: number, last: number, offset: number, end: number, held?: Held): void {
    if (file.window === 0) return this.#pushRest(file, first, last, offset, end, held)
    this.#readAhead(file, last)
    const behind = first - KEPT_BEHIND
    if (behind >= 0 && !file.map.isHole(behind)) this.#blobs.drop(file.map.id(behind))
  }

  /** The rest of the chunks of a random read follows into the page cache. */
  #pushRest(file: OpenFile, first: number, last: number, offset: number, end: number, held?: Held): void {
    const { map } = file
    for (let chunk = first; chunk <= last; chunk++) {
      // asked for again, though it was pushed, and no longer in memory: the kernel has dropped it, and takes it again
      if (file.pushed[chunk] === ON_ITS_WAY || file.pushed[chunk] === PUSHED && held === undefined || map.isHole(chunk)) continue
      file.pushed[chunk] = PUSHED
      // what this very answer brings needs no push
      const answered = offset <= map.start(chunk) ? Math.min(end, map.end(chunk)) : map.start(chunk)
      if (answered < map.end(chunk)) this.#push(file, chunk, answered, held?.get(chunk))
    }
  }

  /** Over a far link, chunks are brought near in long portions long before they are decoded: the more of them, the longer this has gone on. */
  #foresee(file: OpenFile, chunk: number): void {
    const { map, window } = file
    const { foresight } = this.#blobs
    if (foresight === 0 || window <= 2) return
    const from = Math.max(chunk + 1, file.planned, file.foreseen)
    const bytes = foresight * Math.min(1, window / MAX_WINDOW)
    if (from >= map.count || map.start(from) - map.start(chunk) > bytes / 2) return
    const ids: Buffer[] = []
    let to = from
    for (; to < map.count && map.start(to) - map.start(chunk) < bytes; to++) if (!map.isHole(to)) ids.push(map.id(to))
    file.foreseen = to
    void this.#blobs.prepare(ids).then(() => {
      if (file.foreseen < to) return // it is read at random by now
      file.near = Math.max(file.near, to)
      this.#readAhead(file, file.expected)
    })
  }

  #readAhead(file: OpenFile, chunk: number): void {
    const { map } = file
    this.#foresee(file, chunk)
    if (file.window === 0 || file.planned - chunk > file.window / 2) return
    const from = Math.max(chunk + 1, file.planned)
    let to = from
    const budget = map.start(chunk) + this.#blobs.aheadBudget
    // What is on its way here is not asked for once more.
    const end = file.foreseen > from ? Math.max(file.near, chunk + 1) : map.count
    while (to < end && to <= chunk + file.window && map.end(to) <= budget) to++
    if (to <= from) return
    const chunks: number[] = []
    for (let next = from; next < to; next++) if (file.pushed[next] === NOT_PUSHED && !map.isHole(next)) chunks.push(next)
    file.planned = to
    if (chunks.length === 0) return
    this.#blobs.fetch(chunks.map(next => map.id(next)), 'ahead', (index, blob) => {
      // refused or failed: it will be asked for, and answered or refused then
      if (blob instanceof Error) file.planned = Math.min(file.planned, chunks[index])
    })
  }

  /** Push a chunk from `from` on, and the pages it shares with neighbours that are still in memory. */
  #push(file: OpenFile, chunk: number, from: number, held?: NativeBlob): void {
    const { map, node } = file
    const blob = held ?? this.#blobs.peek(map.id(chunk))
    // what is not pushed is asked for again: better than a queue that grows faster than the kernel takes from it
    if (blob === null || this.#pushing > 2 * MAX_PUSHING) { file.pushed[chunk] = NOT_PUSHED; return }
    const items: Push[] = []
    const start = map.start(chunk)
    let begin = Math.ceil(from / PAGE) * PAGE
    if (begin !== from && from === start) {
      const shared = this.#tail(file, chunk - 1)
      if (shared !== null) { items.push(shared); begin = from }
    }
    const atEnd = chunk === map.count - 1
    const end = atEnd ? map.end(chunk) : Math.floor(map.end(chunk) / PAGE) * PAGE
    const head = atEnd ? null : this.#head(file, chunk + 1)
    const last = head === null ? end : map.end(chunk)
    if (last > begin) items.push([node, begin, blob, begin - start, last - begin])
    if (head !== null && last > begin) items.push(head)
    this.#send(file, chunk, items)
  }

  /** The part of a pushed chunk that lies in the page it shares with the next. */
  #tail(file: OpenFile, chunk: number): Push | null {
    const { map, node } = file
    if (chunk < 0 || file.pushed[chunk] === NOT_PUSHED || map.isHole(chunk)) return null
    const from = Math.floor(map.end(chunk) / PAGE) * PAGE
    const blob = from >= map.start(chunk) ? this.#blobs.peek(map.id(chunk)) : null
    return blob === null ? null : [node, from, blob, from - map.start(chunk), map.end(chunk) - from]
  }

  /** The part of a pushed chunk that lies in the page it shares with the one before. */
  #head(file: OpenFile, chunk: number): Push | null {
    const { map, node } = file
    const start = map.start(chunk)
    const to = Math.ceil(start / PAGE) * PAGE
    if (file.pushed[chunk] === NOT_PUSHED || to === start || to > map.end(chunk) || map.isHole(chunk)) return null
    const blob = this.#blobs.peek(map.id(chunk))
    return blob === null ? null : [node, start, blob, 0, to - start]
  }

  #send(file: OpenFile, chunk: number, items: Push[]): void {
    if (items.length === 0) return
    let bytes = 0
    for (const item of items) bytes += item[4]
    this.#pushing += bytes
    // many who read at random ask for the same chunk at once: once is enough
    file.pushed[chunk] = ON_ITS_WAY
    void this.#pages.push(items).catch(() => 0).then(() => {
      this.#pushing -= bytes
      file.pushed[chunk] = PUSHED
    })
  }
}
