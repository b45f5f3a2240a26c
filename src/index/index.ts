import type { IndexFile } from '../format/index-file.js'

/**
 * The local index of one repository: SQLite, shared by processes, always rebuildable. This file is its contract; see open-index.ts.
 */
export interface BlobLocation {
  /** number of the pack in this index; see packName */
  readonly pack: number
  /** bytes from the start of the pack */
  readonly offset: number
  /** bytes in the pack, with 32 of IV and MAC */
  readonly length: number
  /** bytes of plaintext if compressed, else 0 (then it is length - 32) */
  readonly plainLength: number
}
export interface PackedBlob extends BlobLocation { readonly id: Buffer }

/**
 * Reads are synchronous, on the caller's thread, microseconds each, and never throw. Writes run in a worker thread, one after another in the order of
 * the calls; a promise resolves when the write can be read. A write that a reset gets in the way of is done again on the new index; it rejects with
 * ERR_INDEX only if no place at all can be written to.
 */
export interface LocalIndex {
  /** where it is, for messages */
  readonly path: string
  /** false when it lives in a temporary place because the cache directory cannot be used */
  readonly persistent: boolean
  /** all copies of a blob, best first (packs marked for deletion last); [] if unknown */
  locate(id: Uint8Array): BlobLocation[]
  /** Is there a copy of this blob that will stay: in a pack that an index file lists and none marks for deletion? Then it need not be stored again. */
  holds(type: 'data' | 'tree', id: Uint8Array): boolean
  /** 64 hex digits; '' once the pack has left the index (pack numbers are never used again, also not after a reset) */
  packName(pack: number): string
  /** where the last tree of a pack ends, as far as is known; 0 if nothing is */
  treesEnd(pack: number): number
  /** is a pack of this name (64 hex) known? */
  hasPack(name: string): boolean
  /** the first `limit` tree blobs without rows in a pack, from `offset` on, by offset */
  treesWithoutRows(pack: number, offset: number, limit: number): PackedBlob[]
  /** packs with tree blobs whose rows are not stored yet, newest first; not those lately marked by markPackTried */
  packsWithoutRows(limit: number): number[]
  /** tree blobs without rows, those of tried packs included (`tried`: only those): 0 means that `flags` speaks for every tree of the index files added */
  missingTrees(which?: 'tried'): number
  /** rows of a tree, checksum verified, or null */
  rows(tree: Uint8Array): Buffer | null
  /** OR of RowsFlag over all rows stored */
  readonly flags: number
  /** names (64 hex) of index files read */
  indexFiles(): Set<string>
  /** snapshot files read: name (64 hex) -> JSON */
  snapshots(): Map<string, string>
  /** what a view called its snapshots: snapshot id -> name */
  dayNames(view: string): Map<string, string>

  /**
   * Add an index file: decoded, which is taken over and empty afterwards, or as JSON, which is decoded on the thread pool and must not be written to until the promise settles.
   * Rejects with CorruptError when it cannot be understood; nothing of it is kept then.
   * @param located called as soon as its blobs can be located, long before they are written; never if it cannot be understood
   */
  addIndexFile(name: string, file: IndexFile | Buffer, located?: () => void): Promise<void>
  /** Add the blobs of a pack known from its own header only (an index file is damaged). */
  addPackHeader(packName: string, blobs: { id: Buffer, type: 'data' | 'tree', offset: number, length: number, plainLength: number }[]): Promise<void>
  /** Drops packs which no other index file lists, with their blobs and the rows of trees that lie nowhere else. Add new index files first: rows kept need no decoding. */
  removeIndexFiles(names: string[]): Promise<void>
  /** Drop packs (64 hex) which are in no index file: those added by addPackHeader. Others stay. */
  removePacks(names: string[]): Promise<void>
  putRows(batch: { id: Buffer, rows: Buffer }[]): Promise<void>
  /** Some trees of this pack cannot be had: packsWithoutRows leaves it out for a day. */
  markPackTried(pack: number): Promise<void>
  putSnapshots(added: Map<string, string>, removed: string[]): Promise<void>
  putDayNames(view: string, names: Map<string, string>): Promise<void>
  /** Something read from it proved wrong: throw everything away and start empty (then index files must be added again). */
  reset(reason: string): Promise<void>
  /**
   * Called after the index had to be started anew (damaged, deleted, disk full, reset()): index files, snapshots and names must be added again.
   * Until then locate() gives [] and rows() null. Never called in the turn of the call that found the damage.
   * @returns a function that ends the calls
   */
  onReset(callback: (reason: string) => void): () => void
  /**
   * A blob that ought to be known is not: read the whole index through in the worker (about three seconds per million blobs),
   * for a damaged page can hide an entry without a trace. Not more often than once for each blob that would be EIO otherwise.
   * @returns false if it was damaged; then it has been reset
   */
  check(): Promise<boolean>
  /** Waits for writes under way. Idempotent. */
  close(): Promise<void>
}
