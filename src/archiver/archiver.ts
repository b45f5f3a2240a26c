import { availableParallelism } from 'node:os'
import { DaybookError } from '../errors.js'
import { TreeRows } from '../format/tree-rows.js'
import { EntryKind, native, SAME_ENTRY, type NativeChunker, type Pieces, type Scan } from '../native.js'
import type { BlobSaver } from '../repository/blob-saver.js'
import { throwIfAborted } from '../util/abort.js'
import { Budget } from '../util/concurrency.js'
import type { Selection } from './selection.js'
import { Stats } from './stats.js'
import type { StreamSource } from './stream-source.js'
import type { TargetDirectory } from './targets.js'

/** Where the trees of the parent snapshot come from: rows, null if they cannot be had. */
export type ParentRows = (tree: Buffer) => Promise<Buffer | null>

export interface ArchiverOptions {
  readonly blobs: BlobSaver
  /** of the repository, hex digits */
  readonly polynomial: string
  readonly parentRows: ParentRows
  readonly selection?: Selection
  /** OR of MatchFlag */
  readonly matchFlags?: number
  /** Something could not be read; it is left out, or saved without what is missing. */
  readonly onError: (path: Buffer, error: Error) => void
  readonly onExcluded?: (path: Buffer) => void
  /** A tree is about to be stored that the repository did not have: its id and rows. */
  readonly onTree?: (id: Buffer, rows: Buffer) => void
  /** bytes of contents in memory, not counting packs */
  readonly memoryBytes?: number
  readonly signal?: AbortSignal
}

/** Bytes of contents under way: read, and not in a pack yet. */
const MEMORY_BYTES = 16 << 20
/** What a long file has under way at once, and in how many steps: it is read on while what was read is compressed. */
const STREAM_BYTES = 3 << 20
const STREAM_STEPS = 2
/** A file of that many bytes may have several chunks: it is read as a stream. The chunker's least length. */
const STREAM_FROM = 512 << 10
/** Short files are read in one go on the thread pool: so many, or so many bytes. */
const BATCH_FILES = 64
const BATCH_BYTES = 1 << 20
/** Directories under way at once, without those that wait for what is below them. */
const DIRECTORIES = 24
/** A tree of more entries is made on the thread pool. */
const LONG_TREE = 256

/** An entry on its way: what the directory has below it, and what it had in the parent. */
interface Below { readonly position: number, readonly subtree: Buffer | null, readonly known: boolean, readonly same: boolean }

/**
 * Saves files as trees and blobs. Directories are walked in depth, several at a time, and each is stored when all below it is. Contents of files are read,
 * hashed, compressed and encrypted on the thread pool, as far as the memory lasts.
 */
export class Archiver {
  readonly stats = new Stats()
  readonly #options: ArchiverOptions
  readonly #chunker: NativeChunker
  readonly #memory: Budget
  readonly #streams = new Budget(Math.max(2, Math.min(8, availableParallelism())))
  #directories = 0
  /** those whose only file comes out of a stream, and is saved already */
  readonly #streamed = new WeakSet<Scan>()
  #devices: ReadonlySet<number> | null = null

  constructor(options: ArchiverOptions) {
    this.#options = options
    this.#chunker = new native.Chunker(BigInt(`0x${options.polynomial}`))
    this.#memory = new Budget(options.memoryBytes ?? MEMORY_BYTES)
  }

  /**
   * @param parentTree root of the parent snapshot
   * @returns id of the root; all blobs are on their way then (BlobSaver.flush)
   * @throws DaybookError ERR_USAGE if there is nothing at all to save; whatever storing fails with
   */
  async save(targets: TargetDirectory, parentTree: Buffer | null): Promise<Buffer> {
    if (this.#options.selection?.oneFileSystem) this.#devices = await devicesOf(targets)
    const { id, entries } = await this.#saveTargets(Buffer.from('/'), targets, parentTree)
    if (entries === 0) throw new DaybookError('ERR_USAGE', 'there is nothing to save', 'nothing of what was named could be read, or all of it is excluded')
    return id
  }

  async #saveTargets(snapshotPath: Buffer, { entries }: TargetDirectory, parentTree: Buffer | null): Promise<{ id: Buffer, entries: number }> {
    const names = [...entries.keys()].sort((a, b) => a < b ? -1 : 1)
    const list = names.map(name => entries.get(name)!)
    const scan = await native.scanPaths(list.map((entry, i) => ({ path: entry.path ?? Buffer.alloc(0), name: Buffer.from(names[i], 'latin1'), follow: entry.kind === 'directory' })))
    const now = Date.now()
    for (const [i, entry] of list.entries()) {
      if (entry.path !== null) continue
      const [mode, timeMs] = entry.kind === 'stream' ? [0o100644, entry.timeMs] : [0o040755, now]
      scan.setMade(i, mode, process.getuid!(), process.getgid!(), Math.floor(timeMs / 1000), timeMs % 1000 * 1e6)
      if (entry.kind === 'stream') await this.#saveStream(scan, i, entry.source)
    }
    // In directories above what is saved, attributes may be out of reach; that is as it is.
    this.#report(scan, position => list[position].kind === 'path' || list[position].path === null)
    const chosen = this.#choose(scan, list.map(entry => ({ path: entry.path, explicit: entry.kind !== 'path' || entry.explicit })))
    const id = await this.#saveScan(scan, chosen, parentTree, position => list[position].path ?? Buffer.from(names[position], 'latin1'), (position, subtree) => {
      const entry = list[position]
      if (entry.kind === 'stream') return Promise.resolve(null)
      const path = Buffer.concat([snapshotPath, Buffer.from(names[position], 'latin1'), Buffer.from('/')])
      return entry.kind === 'path' ? this.#saveDirectory(entry.path, subtree) : this.#saveTargets(path, entry, subtree).then(({ id }) => id)
    })
    return { id: id!, entries: chosen.length }
  }

  /** @returns id of its tree; null if it cannot be read */
  async #saveDirectory(path: Buffer, parentTree: Buffer | null): Promise<Buffer | null> {
    throwIfAborted(this.#options.signal)
    let scan: Scan
    try {
      scan = await native.scanDirectory(path)
    } catch (error) {
      this.#fail(path, error as Error)
      return null
    }
    this.#report(scan)
    const names = splitNames(scan.names())
    const paths = names.map(name => ({ path: below(path, name), explicit: false }))
    const marker = await this.#options.selection?.marker?.(path, name => names.some(other => other.equals(name))) ?? null
    if (marker !== null) names.forEach((name, position) => { if (!name.equals(marker)) scan.leaveOut(position) })
    const chosen = this.#choose(scan, paths).filter(position => marker === null || names[position].equals(marker))
    return this.#saveScan(scan, chosen, parentTree, position => paths[position].path, (position, subtree) => this.#saveDirectory(paths[position].path, subtree))
  }

  /** Positions of the entries that are to be saved; the others are left out. */
  #choose(scan: Scan, entries: readonly { path: Buffer | null, explicit: boolean }[]): number[] {
    const { excludesPath, excludesEntry } = this.#options.selection ?? {}
    const kinds = scan.kinds()
    const devices = this.#devices === null ? null : scan.devices()
    const sizes = excludesEntry === undefined ? null : scan.sizes()
    const chosen: number[] = []
    for (let i = 0; i < kinds.length; i++) {
      const { path, explicit } = entries[i]
      if (kinds[i] === EntryKind.none || kinds[i] === EntryKind.socket) continue
      const excluded = path !== null && !explicit && (excludesPath?.(path)
        || devices !== null && !this.#devices!.has(devices[i]) && kinds[i] !== EntryKind.directory
        || excludesEntry?.(path, kinds[i] === EntryKind.directory, kinds[i] === EntryKind.file ? sizes![i] : 0))
      if (excluded) {
        scan.leaveOut(i)
        this.#options.onExcluded?.(path)
      } else chosen.push(i)
    }
    return chosen
  }

  /** Contents first, then what is below, then the tree. @param directory saves what is below an entry */
  async #saveScan(scan: Scan, chosen: readonly number[], parentTree: Buffer | null, pathOf: (position: number) => Buffer,
    directory: (position: number, subtree: Buffer | null) => Promise<Buffer | null>): Promise<Buffer | null> {
    const { stats } = this
    const bytes = parentTree === null ? null : await this.#options.parentRows(parentTree)
    const found = bytes === null ? null : scan.match(bytes, this.#options.matchFlags ?? 0)
    const rows = bytes === null ? null : new TreeRows(bytes)
    const kinds = scan.kinds()
    const sizes = scan.sizes()
    const work: Promise<void>[] = []
    const failed: { error: unknown }[] = []
    const start = (task: Promise<void>) => { work.push(task.catch(error => { failed.push({ error }) })) }
    const belows: Below[] = []
    let batch: number[] = []
    let batchBytes = 0
    const wasThere = new Set<number>()
    const readBatch = () => {
      if (batch.length > 0) start(this.#readFiles(scan, batch, batchBytes, wasThere, pathOf))
      batch = []
      batchBytes = 0
    }
    for (const position of chosen) {
      const place = found === null ? -1 : found[position]
      const same = place >= SAME_ENTRY
      const row = place < 0 ? -1 : place & SAME_ENTRY - 1
      if (kinds[position] === EntryKind.directory) {
        belows.push({ position, subtree: row < 0 ? null : rows!.subtree(row), known: row >= 0 && rows!.isDirectory(row), same })
        continue
      }
      if (kinds[position] !== EntryKind.file || this.#streamed.has(scan)) continue
      if (same && this.#hasAll(rows!.content(row), pathOf(position))) {
        stats.count('files', 'unmodified')
        stats.processedBytes += sizes[position]
        continue
      }
      if (row >= 0) wasThere.add(position)
      if (sizes[position] >= STREAM_FROM) {
        start(this.#readStream(scan, position, row >= 0, pathOf(position)))
        continue
      }
      batch.push(position)
      batchBytes += sizes[position]
      if (batch.length >= BATCH_FILES || batchBytes >= BATCH_BYTES) readBatch()
    }
    readBatch()
    for (const below of belows) {
      if (failed.length > 0) break
      const task = this.#saveBelow(scan, below, directory, failed)
      // Beyond that many, one after the other: what waits for its turn would only hold memory.
      if (this.#directories < DIRECTORIES) {
        this.#directories++
        start(task.finally(() => { this.#directories-- }))
      } else await task
    }
    await Promise.all(work)
    if (failed.length > 0) throw failed[0].error
    throwIfAborted(this.#options.signal)
    return this.#saveTree(scan, chosen.length)
  }

  async #saveBelow(scan: Scan, { position, subtree, known, same }: Below, directory: (position: number, subtree: Buffer | null) => Promise<Buffer | null>, failed: { error: unknown }[]): Promise<void> {
    try {
      const id = await directory(position, subtree)
      if (id === null) return
      scan.setSubtree(position, id)
      this.stats.count('dirs', !known ? 'new' : same && subtree !== null && id.equals(subtree) ? 'unmodified' : 'changed')
    } catch (error) {
      failed.push({ error })
    }
  }

  async #saveTree(scan: Scan, count: number): Promise<Buffer> {
    const pieces = count > LONG_TREE ? await scan.treeLater() : scan.tree()
    const id = Buffer.from(pieces.ids)
    if (this.#options.onTree && !this.#options.blobs.has('tree', id)) {
      const rows = pieces.rows(0)
      if (rows !== null) this.#options.onTree(id, rows)
    }
    this.stats.add('tree', await this.#options.blobs.save('tree', pieces))
    return id
  }

  /** Files of one chunk each. */
  async #readFiles(scan: Scan, positions: number[], bytes: number, wasThere: ReadonlySet<number>, pathOf: (position: number) => Buffer): Promise<void> {
    const release = await this.#memory.acquire(bytes + positions.length * 1024)
    try {
      throwIfAborted(this.#options.signal)
      const pieces = await scan.read(Uint32Array.from(positions))
      const bad = this.#report(scan)
      this.stats.add('data', await this.#options.blobs.save('data', pieces))
      const sizes = scan.sizes()
      for (const position of positions) {
        if (bad.has(position) || scan.grown(position)) continue
        this.stats.count('files', wasThere.has(position) ? 'changed' : 'new')
        this.stats.processedBytes += sizes[position]
      }
    } finally {
      release()
    }
    for (const position of positions) if (scan.grown(position)) await this.#readStream(scan, position, wasThere.has(position), pathOf(position))
  }

  /** What comes out of a descriptor. What goes wrong there is no fault of one file among others: it ends the backup. */
  async #saveStream(scan: Scan, position: number, source: StreamSource): Promise<void> {
    this.#streamed.add(scan)
    const { errors } = this.stats
    const fd = await source.open()
    await this.#readStream(scan, position, false, Buffer.from(source.path), fd)
    await source.finished()
    if (this.stats.errors > errors) throw new DaybookError('ERR_UNREACHABLE', `${source.path} could not be read to its end`, 'no snapshot was made')
  }

  async #readStream(scan: Scan, position: number, wasThere: boolean, path: Buffer, fd?: number): Promise<void> {
    const close = await this.#streams.acquire(1)
    const stream = scan.open(position, this.#chunker, fd)
    const saves = new Set<Promise<void>>()
    let failure: { error: unknown } | null = null
    try {
      while (!stream.ended && failure === null) {
        throwIfAborted(this.#options.signal)
        while (saves.size >= STREAM_STEPS) await Promise.race(saves)
        const release = await this.#memory.acquire(STREAM_BYTES)
        let pieces: Pieces
        try {
          pieces = await stream.next(STREAM_BYTES / 2)
        } catch (error) {
          release()
          scan.leaveOut(position)
          this.#fail(path, error as Error)
          return
        }
        this.stats.processedBytes += pieces.lengths.reduce((sum, length) => sum + length, 0)
        const save: Promise<void> = this.#options.blobs.save('data', pieces).then(added => this.stats.add('data', added), error => { failure ??= { error } })
          .finally(() => { saves.delete(save); release() })
        saves.add(save)
      }
    } finally {
      stream.close()
      close()
      await Promise.all(saves)
    }
    if (failure !== null) throw (failure as { error: unknown }).error
    this.stats.count('files', wasThere ? 'changed' : 'new')
  }

  /** Contents of a file that is unchanged: are they all still in the repository? */
  #hasAll(content: Buffer, path: Buffer): boolean {
    for (let at = 0; at < content.length; at += 32) {
      if (this.#options.blobs.has('data', content.subarray(at, at + 32))) continue
      this.#fail(path, new Error('parts of it are not in the repository any more; it is stored again'))
      return false
    }
    return true
  }

  /** Tell of what went wrong on the thread pool. @returns positions that are left out for it */
  #report(scan: Scan, wanted: (position: number) => boolean = () => true): Set<number> {
    const bad = new Set<number>()
    for (const error of scan.takeErrors()) {
      const attributes = error.syscall === 'llistxattr' || error.syscall === 'lgetxattr'
      if (!attributes) {
        bad.add(error.entry)
        scan.leaveOut(error.entry)
      }
      // What has gone between two looks is no fault.
      if ((error.code !== 'ENOENT' || attributes) && wanted(error.entry)) this.#fail(Buffer.from(error.path ?? ''), error)
    }
    return bad
  }

  #fail(path: Buffer, error: Error): void {
    if (error instanceof DaybookError && error.code === 'ERR_ABORTED') throw error
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    this.stats.errors++
    this.#options.onError(path, error)
  }
}

async function devicesOf({ entries }: TargetDirectory): Promise<Set<number>> {
  const devices = new Set<number>()
  for (const entry of entries.values()) {
    if (entry.kind === 'stream') continue
    if (entry.kind === 'directory') for (const device of await devicesOf(entry)) devices.add(device)
    else devices.add((await native.scanPaths([{ path: entry.path, name: Buffer.from('x'), follow: false }])).devices()[0])
  }
  return devices
}

function below(path: Buffer, name: Buffer): Buffer { return Buffer.concat(path[path.length - 1] === 0x2f ? [path, name] : [path, Buffer.from('/'), name]) }

function splitNames(joined: Buffer): Buffer[] {
  const names: Buffer[] = []
  for (let at = 0, end: number; (end = joined.indexOf(0, at)) >= 0; at = end + 1) names.push(joined.subarray(at, end))
  return names
}
