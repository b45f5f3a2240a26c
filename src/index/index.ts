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

/** Reads are synchronous, on the caller's thread, microseconds each. Writes run in a worker thread. */
export interface LocalIndex {
  /** where it is, for messages */
  readonly path: string
  /** false when it lives in a temporary place because the cache directory cannot be used */
  readonly persistent: boolean
  /** all copies of a blob, best first (packs marked for deletion last); [] if unknown */
  locate(id: Uint8Array): BlobLocation[]
  /** 64 hex digits */
  packName(pack: number): string
  /** all tree blobs known to lie in a pack, by offset */
  treesOfPack(pack: number): PackedBlob[]
  /** packs with tree blobs whose rows are not stored yet, newest first */
  packsWithoutRows(limit: number): number[]
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

  /** Add one index file's JSON (decrypted); parsed in the worker. Rejects with CorruptError when it cannot be understood; nothing of it is kept then. */
  addIndexFile(name: string, json: Buffer): Promise<void>
  /** Add the blobs of a pack known from its own header only (an index file is damaged). */
  addPackHeader(packName: string, blobs: { id: Buffer, type: 'data' | 'tree', offset: number, length: number, plainLength: number }[]): Promise<void>
  removeIndexFiles(names: string[]): Promise<void>
  putRows(batch: { id: Buffer, rows: Buffer }[]): Promise<void>
  putSnapshots(added: Map<string, string>, removed: string[]): Promise<void>
  putDayNames(view: string, names: Map<string, string>): Promise<void>
  /** Something read from it proved wrong: throw everything away and start empty (then index files must be added again). */
  reset(reason: string): Promise<void>
  close(): Promise<void>
}
