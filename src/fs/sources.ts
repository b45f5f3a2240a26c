import type { NativeBlob, Push } from '../native.js'

/** 32 bytes. */
export type BlobId = Uint8Array

/** A snapshot as the tree needs it. */
export interface SnapshotEntry {
  /** 64 hex digits */
  readonly id: string
  /** 32 bytes */
  readonly tree: BlobId
  /** ms since 1970 and nanoseconds within that ms, as restic recorded it */
  readonly timeMs: number
  readonly timeNs: number
  readonly hostname: string
  readonly username: string
  readonly tags: readonly string[]
  readonly paths: readonly string[]
}

/** Where directories come from. */
export interface TreeSource {
  /** Rows of a tree (format/tree-rows.ts) if they are at hand without waiting; memory or local index, well under a millisecond. */
  peek(id: BlobId): Buffer | null
  /** Rows of a tree, fetched if need be; concurrent calls share one fetch. Rejects with CorruptError or NotFoundError (both: EIO for this directory alone). */
  load(id: BlobId): Promise<Buffer>
  /** Several trees that will be asked for. `onRows` is called once per id, also for those at hand (synchronously then); may be refused when memory is short. */
  fetch(ids: readonly BlobId[], onRows: (index: number, rows: Buffer | Error) => void): void
  /** Every tree of the repository is in the local index, so `flags` speaks for all of them. */
  readonly complete: boolean
  /** Somebody asks file after file what could be answered once for all, were the flags of all trees known: look at them now. */
  hurry(): void
  /** OR of RowsFlag over all trees seen so far. */
  readonly flags: number
}

/** Where contents come from. Blobs given out belong to the source, which may free them after the current turn of the event loop: use them at once. */
export interface BlobSource {
  /** Plain length in bytes of a blob, from the index; -1 if the blob is unknown. Synchronous, microseconds. */
  length(id: BlobId): number
  /** The decoded blob if it is in memory. */
  peek(id: BlobId): NativeBlob | null
  /** Its reader is done with this blob (the kernel's page cache holds it now): its memory may be used for others after the current turn. */
  drop(id: BlobId): void
  /**
   * Fetch and decode what is not in memory, in whatever order is cheapest: grouped by pack, neighbouring ranges merged, decoded on all cores.
   * `onBlob` is called once per id, also for those in memory (synchronously then), with the blob or the reason it cannot be had;
   * the same blob wanted twice is fetched once. `ahead`: read-ahead, which yields to demand and may be refused (ERR_ABORTED) when memory is short.
   */
  fetch(ids: readonly BlobId[], priority: 'demand' | 'ahead', onBlob: (index: number, blob: NativeBlob | Error) => void): void
  /** How many bytes prepare() may be ahead of fetch(); 0: it is of no use, at the moment or for ever. */
  readonly foresight: number
  /** Will be fetched later: bring them near, undecoded. Many in one call, from which as few requests as possible are made. Resolves when they are there, or cannot be had; never rejects. */
  prepare(ids: readonly BlobId[]): Promise<void>
  /** bytes of read-ahead that may be under way or waiting in memory */
  readonly aheadBudget: number
  /** While the index is being filled: resolves when it may know this blob, or is full. */
  located(id: BlobId): Promise<void>
  /** Are an unknown blob's neighbours worth a new look at the repository? Lists index files again, once for all callers; true if something new was learnt. */
  refresh(): Promise<boolean>
}

/** Flat triples: a blob, or null for zeros; the first byte within it; how many bytes. In file order. */
export type ReadPart = NativeBlob | null | number

/** The kernel's page cache of this mount. */
export interface PageCache {
  /** Put bytes there before they are asked for; from a thread of its own. Neighbouring items of one node in one call are stored as one run. @returns how many the kernel took */
  push(items: Push[]): Promise<number>
}
