/** Kinds of files of a repository, as restic names their folders (`config` is a single file without a name). */
export const FILE_TYPES = ['config', 'keys', 'snapshots', 'index', 'data', 'locks'] as const
export type FileType = typeof FILE_TYPES[number]

/** One file of the repository. `name`: 64 hex digits; '' for config. */
export interface Handle { readonly type: FileType, readonly name: string }
export interface FileInfo { readonly name: string, /** bytes */ readonly size: number }
/** bytes of a file, and where they are put */
export interface Range { readonly handle: Handle, readonly offset: number, readonly length: number, readonly at: number }
export interface ReadOptions {
  signal?: AbortSignal
  /**
   * read(): memory the bytes may be put into, if there is room; the answer is a view of it then. Once a read has failed, or its answer is no view of it, it must
   * not be used again: it may still be written to.
   */
  into?: Buffer
  /** read(), readAll(): so many times these bytes proved wrong when they were read before; this time they are to come from another source, if there is one. */
  again?: number
  /** read(): of trees, in a pack whose last tree ends there (0: unknown). A cache keeps them longest, and fetches what lies around them, up to there. */
  treesUpTo?: number
  /** read(): for the cache's sake, which is to wait for its disk rather than drop them */
  keep?: boolean
  /** of remotes: fail (ERR_UNREACHABLE) when nothing arrives for that long, so that another connection can be tried */
  idleMs?: number
  /** told whenever something arrives from a remote */
  alive?: () => void
  /** list(): told that the list may lack files that exist, as the location whose word counts does not answer. Nothing is to be forgotten then. */
  partial?: () => void
}

/** A location of a repository, as `daybook status` and the counters show it. */
export interface LocationHealth {
  /** holds no password */
  readonly location: string
  /** down: it does not answer; where there are several, it is left alone and probed. refused: it holds another repository */
  readonly state: 'up' | 'down' | 'refused'
  /** ms since 1970; null while it is up */
  readonly sinceMs: number | null
  /** the last request it did not answer, or not as it should; also one of long ago. Holds no password. */
  readonly lastError: { readonly timeMs: number, readonly message: string } | null
  /** requests it answered, requests it failed to answer, and answers of others that overtook its own */
  readonly answers: number
  readonly failures: number
  readonly overtaken: number
  /** files it lacks and others have, and files of which it gave wrong bytes; as often as they were noticed, and each once */
  readonly missing: number
  readonly damaged: number
}

/** What is to be known and done about the locations of a repository, where it has several. */
export interface Replicas {
  /** The repository has been opened: every location is to hold the same one. Those that do not are not used any more. Checked in the background. */
  check(isSame: (config: Buffer) => Promise<boolean>): void
}

/** What of the packs is close at hand, in a cache on disk: it can be had by readRanges() without a connection. */
export interface Near {
  /** Learn what is there of these packs. null: that is known already. Never rejects, and waits for no remote. */
  look(packs: Iterable<string>): Promise<void> | null
  /** As far as is known: is this stretch there? */
  has(pack: string, offset: number, length: number): boolean
  /** Is it there, or on its way? */
  coming(pack: string, offset: number, length: number): boolean
  /** So many bytes may be read for the sake of being near when they are wanted; 0: they would not be, at the moment. */
  readonly ahead: number
}

/**
 * Flat storage of a repository's files, for reading. Knows nothing of blobs, keys or JSON. All methods may run concurrently.
 * Errors: NotFoundError (ERR_NOT_FOUND) for a file that is not there; DaybookError ERR_UNREACHABLE for what may pass; AccessError and
 * RefusedError for what will not; CorruptError where a file ends before offset + length; ERR_ABORTED at once when the signal says so.
 *
 * A backend tries each request once. Retries and limits are wrappers around it (retry.ts, connection-limit.ts, bandwidth.ts), which know nothing
 * of what they wrap: they ask an error whether it is `retryable`. What can also write is a Backend.
 */
export interface ReadBackend {
  /** what to call it in messages; holds no password */
  readonly location: string
  /** how many requests at once are useful */
  readonly connections: number
  /** Independent sources of the same bytes (a cache and what lies behind it, replicas); 1 if not given. What proves wrong is read `again` from the others. */
  readonly sources?: number
  /** there, if the repository has several locations */
  readonly replicas?: Replicas
  /** Of each location, the preferred one first; [] of one of which nothing is known, as of a folder. */
  health?(): LocationHealth[]
  /** Files of a type, in no order. A folder that is missing lists as empty. Names that are not 64 hex digits are left out. */
  list(type: Exclude<FileType, 'config'>, options?: ReadOptions): Promise<FileInfo[]>
  /** Exactly `length` bytes at `offset`. */
  read(handle: Handle, offset: number, length: number, options?: ReadOptions): Promise<Buffer>
  /**
   * Many ranges at once, where that is cheaper than one by one: each into its place in `into`, which must not be used until then.
   * A backend with `near` reads what is there and nothing else.
   * @returns per range whether it was read; what was not is to be read() by itself, which says why
   */
  readRanges?(ranges: readonly Range[], into: Buffer, options?: { signal?: AbortSignal }): Promise<ArrayLike<number>>
  readonly near?: Near
  /** The whole file. @param maxLength refuse (CorruptError) above that many bytes */
  readAll(handle: Handle, maxLength: number, options?: ReadOptions): Promise<Buffer>
  stat(handle: Handle, options?: ReadOptions): Promise<FileInfo>
  close(): Promise<void>
}

export type SaveOptions = Pick<ReadOptions, 'signal' | 'idleMs' | 'alive'>

/**
 * Storage that can also be written to. The read path cannot name these methods, so nothing that only shows a repository changes one.
 * Errors as of ReadBackend.
 */
export interface Backend extends ReadBackend {
  /** Make the place ready for a new repository: folders, or what a server wants. What is there already stays. */
  create(options?: SaveOptions): Promise<void>
  /**
   * Store a file whole or not at all: who lists or reads sees none of it before it is complete and, where the storage can say so, safe from a loss of power.
   * A file of that name is replaced. `bytes` must not be written to until the promise settles.
   */
  save(handle: Handle, bytes: Buffer, options?: SaveOptions): Promise<void>
  /** Remove a file. @throws NotFoundError if it was not there */
  remove(handle: Handle, options?: SaveOptions): Promise<void>
}
