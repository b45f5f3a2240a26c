import { createRequire } from 'node:module'

/**
 * The addon, as TypeScript sees it. It executes and has no policy: JavaScript validates arguments, C++ asserts them.
 * Built by `npm run build:native` into build/Release/daybook.node.
 */
export interface Native {
  readonly Blob: BlobConstructor
  readonly Session: SessionConstructor
  readonly Chunker: ChunkerConstructor

  /**
   * Check, decrypt, decompress and verify blobs of one pack range, on the thread pool, shared by all cores.
   * @param keys 64 bytes: AES-256 key (32), Poly1305 k (16), Poly1305 r (16)
   * @param source bytes of the pack; not modified; must not be written to until the promise settles
   * @param entries n triples [offset in source, length in bytes with 16 of IV and 16 of MAC, plain length or 0 if not compressed]
   * @param ids n x 32 bytes, the SHA-256 each plaintext must have
   * @returns n results in the order of the entries: a Blob, or a DecodeError number. Never rejects for damaged input.
   */
  decodeBlobs(keys: Uint8Array, source: Uint8Array, entries: Uint32Array, ids: Uint8Array): Promise<(NativeBlob | number)[]>

  /**
   * As decodeBlobs for tree blobs, and turns each tree's JSON into rows (format/tree-rows.ts). The JSON never enters the heap.
   * @returns n results: a Buffer of rows, or a DecodeError number. The rows of one call share memory, which lives as long as any of them: copy what is kept
   */
  decodeTrees(keys: Uint8Array, source: Uint8Array, entries: Uint32Array, ids: Uint8Array): Promise<(Buffer | number)[]>

  /** As decodeTrees, for those who only want to know the OR of the trees' RowsFlag. @returns -1 if one of them could not be decoded */
  treeFlags(keys: Uint8Array, source: Uint8Array, entries: Uint32Array, ids: Uint8Array): Promise<number>

  /** Rows of one tree from its plaintext JSON. For tests and tools. @returns rows, or a DecodeError number */
  treeToRows(id: Uint8Array, json: Uint8Array): Buffer | number

  /**
   * Check and decrypt a whole file of the repository (config, index, snapshot, lock, key data) or a pack header:
   * IV (16) | ciphertext | MAC (16). With `zstd`, a plaintext whose first byte is 0x02 is a zstd frame behind that byte and is decompressed.
   * @param maxLength most bytes of output allowed
   * @returns plaintext, or a DecodeError number. On the thread pool.
   */
  decryptFile(keys: Uint8Array, file: Uint8Array, options: { zstd: boolean, maxLength: number }): Promise<Buffer | number>

  /**
   * Decode an index file (format/index-file.ts), on the thread pool.
   * @param source its JSON, or with `keys` and `options` (see decryptFile) the file as it is stored; must not be written to until the promise settles
   * @returns buffers of their own, of just the size; or the number of the byte at which it is not the JSON of an index file; or a DecodeError number, negated
   */
  decodeIndexFile(source: Uint8Array, keys?: Uint8Array, options?: { zstd: boolean, maxLength: number }): Promise<DecodedIndexFile | number>

  /** The inverse for one piece of plaintext, with a random IV: IV | ciphertext | MAC. Synchronous; for tests and small files. */
  encrypt(keys: Uint8Array, plain: Uint8Array): Buffer

  /**
   * As `encrypt`, on the thread pool. With `level` the plaintext is compressed first, behind a byte 0x02, as files of format 2 are.
   * @param plain must not be written to until the promise settles
   */
  encryptFile(keys: Uint8Array, plain: Uint8Array, level: number | null): Promise<Buffer>
  /** SHA-256, on the thread pool. @param bytes must not be written to until the promise settles */
  sha256(bytes: Uint8Array): Promise<Buffer>

  /** A directory (not what a link leads to) with the attributes of its entries, by name; sockets too. Rejects like node:fs if it cannot be listed. On the thread pool. */
  scanDirectory(path: Buffer): Promise<Scan>
  /** Single paths under names of their own, which are to be in order. `follow`: what a symbolic link leads to. A path of no bytes: the entry is made up, see setMade(). */
  scanPaths(paths: { path: Buffer, name: Buffer, follow: boolean }[]): Promise<Scan>

  /** Do rows (format/tree-rows.ts) have a sound header and checksum? Constant-time per byte, several GB/s. */
  verifyRows(rows: Uint8Array): boolean
  /** Write the checksum into rows built in JavaScript. */
  sealRows(rows: Uint8Array): void
  /** Position of a name among rows, by binary search; -1 if absent. */
  findRow(rows: Uint8Array, name: Uint8Array): number
  /** Inode number (st_ino) of a directory from its parent directory's number and its own name and position; ascending with position within one parent. */
  directoryIno(parent: bigint, position: number): bigint

  /** Names and values of extended attributes of a path itself (no symlink is followed), for tests and the archiver. Throws like node:fs. */
  listXattrs(path: Buffer): Buffer[]
  getXattr(path: Buffer, name: Buffer): Buffer
  setXattr(path: Buffer, name: Buffer, value: Buffer): void
  /** lseek(2) with SEEK_DATA (3) or SEEK_HOLE (4). Throws like node:fs (ENXIO past the end). */
  seek(fd: number, offset: number, whence: 3 | 4): number
  /** statx(2) of the path itself: what fs.lstat lacks: nanoseconds as signed pairs, birth time, mount id. */
  statx(path: Buffer): { mode: number, nlink: number, uid: number, gid: number, ino: bigint, size: bigint, blocks: bigint, rdevMajor: number, rdevMinor: number,
    atime: [bigint, number], mtime: [bigint, number], ctime: [bigint, number], btime: [bigint, number] | null }
  /**
   * pread(2) of many ranges in one piece of work on the thread pool. @param ranges quadruples [descriptor, offset, length, where in `into`]; the descriptors must stay
   * open, and `into` must not be used, until the promise settles. @returns per range 1 if it was read whole, 0 if not (an error, or the file ends early)
   */
  readRanges(ranges: Float64Array, into: Uint8Array): Promise<Uint8Array>
  mknod(path: Buffer, mode: number, rdevMajor: number, rdevMinor: number): void
  utimensat(path: Buffer, atime: [bigint, number], mtime: [bigint, number]): void
  /** umount2(2) flags: 2 = MNT_DETACH. Throws like node:fs. */
  umount2(target: Buffer, flags: number): void
  /** pipe2(2): descriptors that no child inherits unless told to */
  pipe(): { read: number, write: number }
  /** PR_SET_DUMPABLE 0 and RLIMIT_CORE 0: keys must not reach a core dump. */
  forbidCoreDumps(): void
}

/** Why a stored form was refused. The numbers are shared with native/blob_codec.h. */
export const DecodeError = {
  /** the Poly1305-AES MAC does not fit: damaged, or another key */
  mac: 1,
  /** zstd frame damaged, or longer or shorter than the index says */
  zstd: 2,
  /** SHA-256 of the plaintext is not the blob's id */
  hash: 3,
  /** entry outside of the source, or shorter than IV and MAC */
  range: 4,
  /** a tree whose JSON cannot be understood */
  tree: 5,
  /** more memory than allowed */
  memory: 6,
} as const

/** Cuts contents into chunks as restic does. The polynomial is the repository's. Throws TypeError unless its degree is 8 to 53. */
export interface ChunkerConstructor { new (polynomial: bigint): NativeChunker }
export interface NativeChunker {
  /** Where the chunks of these bytes end, the last one at their end. On the thread pool; the bytes must not be written to until the promise settles. */
  split(bytes: Uint8Array): Promise<Float64Array>
}

/** st_mode >> 12 of an entry of a Scan. `none`: it could not be looked at, and is left out. */
export const EntryKind = { none: 0, fifo: 1, charDevice: 2, directory: 4, blockDevice: 6, file: 8, symlink: 10, socket: 12 } as const

/** Flags of Scan.match(). */
export const MatchFlag = { ignoreInode: 1, ignoreCtime: 2 } as const
/** Added by Scan.match() to the position of what is the same file, and of what is none but has the same type, mode, owner and times. */
export const SAME_ENTRY = 2 ** 30

/**
 * A directory on its way into a backup. Entries are known by their position. Methods that return a promise work on the thread pool; no entry may be in the hands of
 * two of them at once, nor of tree() at the same time.
 */
export interface Scan {
  /** each ends with a NUL */
  names(): Buffer
  /** EntryKind of each */
  kinds(): Uint8Array
  /** bytes; of a file that was read, what was read */
  sizes(): Float64Array
  /** st_dev of each */
  devices(): Float64Array
  /** What could not be read since this was last asked, as node:fs has it. `entry`: its position. An entry that had vanished is told with ENOENT, one that had become something else with ESTALE. */
  takeErrors(): (NodeJS.ErrnoException & { entry: number })[]
  /**
   * Compare with rows (format/tree-rows.ts) of the same directory in an earlier backup. @param flags OR of MatchFlag
   * @returns per entry its position there, -1 if it is not; with SAME_ENTRY added if it is the same. An unchanged file has the content of the earlier one now
   */
  match(rows: Uint8Array, flags: number): Int32Array
  /** ids of a file's chunks, 32 bytes each */
  content(entry: number): Buffer
  setContent(entry: number, ids: Uint8Array): void
  setSubtree(entry: number, id: Uint8Array): void
  /** It is not to be in the tree. */
  leaveOut(entry: number): void
  /** Of an entry made up: st_mode, owner, and time of change. */
  setMade(entry: number, mode: number, uid: number, gid: number, seconds: number, nanoseconds: number): void
  /** Read files that are one chunk each, whole; empty ones and those that failed (see takeErrors) make no piece. One that has become too long is `grown`, and to be opened. */
  read(entries: Uint32Array): Promise<Pieces>
  grown(entry: number): boolean
  /** Read a file of any length. @param fd where given, what comes out of this descriptor, which is closed at the end, is the file's content */
  open(entry: number, chunker: NativeChunker, fd?: number): FileStream
  /** The tree as restic writes it, one piece. Directories without subtree are left out. */
  tree(): Pieces
  /** The same on the thread pool, for long ones. */
  treeLater(): Promise<Pieces>
}

export interface FileStream {
  /** Chunks of at least so many bytes together, fewer at the end. Rejects like node:fs; then it is closed. */
  next(bytes: number): Promise<Pieces>
  /** there is no more */
  readonly ended: boolean
  close(): void
}

/** What is to become blobs, in memory outside of V8. */
export interface Pieces {
  readonly count: number
  /** 32 bytes each */
  readonly ids: Buffer
  /** of the plaintext */
  readonly lengths: Float64Array
  /** a copy: of the plaintext, or of what was encoded */
  bytes(index: number): Buffer
  /** rows of a tree, before it is encoded; null if they cannot be made */
  rows(index: number): Buffer | null
  /**
   * Compress and encrypt these pieces, and drop their plaintext. @param level of zstd, null to leave them as they are
   * @param verify decode each again, and compare its id @returns bytes that each will take in a pack. Rejects if the memory proves bad
   */
  encode(keys: Uint8Array, indexes: Uint32Array, level: number | null, verify: boolean): Promise<Float64Array>
  /** Write encoded pieces to their places, and drop them. @param places triples [piece, descriptor, offset]. Rejects like node:fs */
  write(places: Float64Array): Promise<void>
  /** Drop all. */
  free(): void
}

/** Fields as in IndexFile of format/index-file.ts. */
export interface DecodedIndexFile {
  readonly packs: Buffer
  readonly toDelete: Buffer
  readonly blobs: Buffer
  readonly treeCount: number
  readonly skipped: number
}

/** A decoded, verified blob. Its memory belongs to C++ and is recycled after free(), once pushes in flight are done. */
export interface NativeBlob {
  /** bytes; 0 after free() */
  readonly length: number
  /** a copy in a Buffer */
  bytes(): Buffer
  /** another Blob over the same memory, to be freed by itself */
  share(): NativeBlob
  /** give the memory back now; using the blob afterwards throws */
  free(): void
}
export interface BlobConstructor {
  /** a blob with a copy of these bytes (tests) */
  from(bytes: Uint8Array): NativeBlob
  /** bytes held by living blobs and by the recycler */
  memory(): { live: number, idle: number }
}

/**
 * A number of a request, valid until it is answered. Every request is answered exactly once: a second answer throws
 * ERR_ANSWERED, a handler that throws is answered EIO, and requests still open when the session ends are answered EIO.
 */
export type RequestId = number

/**
 * Node ids are safe integers with a meaning shared with native/session.h (see src/fs/node-id.ts):
 * 1 is the root; bit 51 marks directories (only those are reported to `forget`); bit 50 a file known to have no extended attributes
 * (answered in C++); below it tree handle (26 bits) and position (24 bits).
 */
export type NodeId = number

export interface SessionHandlers {
  lookup(request: RequestId, parent: NodeId, name: Buffer): void
  /** pairs [nodeid, count, nodeid, count, ...] of directories only */
  forget(pairs: Float64Array): void
  getattr(request: RequestId, node: NodeId): void
  readlink(request: RequestId, node: NodeId): void
  read(request: RequestId, node: NodeId, offset: number, size: number): void
  /** offset: 0 at the start, else what replyDirents gave the last entry: 1 '.', 2 '..', position + 3 */
  readdirplus(request: RequestId, node: NodeId, offset: number, size: number): void
  getxattr(request: RequestId, node: NodeId, name: Buffer, size: number): void
  listxattr(request: RequestId, node: NodeId, size: number): void
  /** whence 3 SEEK_DATA, 4 SEEK_HOLE */
  lseek(request: RequestId, node: NodeId, offset: number, whence: number): void
  statfs(request: RequestId): void
  /** the caller was interrupted; answer EINTR or finish; the request is still open. `thread`: its thread id as FUSE gives it (fuse_req_ctx pid), 0 if unknown */
  interrupt(request: RequestId, thread: number): void
  /** no request follows: unmounted, or the connection broke (errno); once, and not after close() */
  closed(errno: number): void
  /**
   * The reader has reached the end of this directory, so the kernel knows all of its inodes. Called after a listing's last request was answered in C++
   * (see `immutable` of replyDirents; where that is not so, the caller of replyDirents sees it return 0).
   */
  listed?(node: NodeId): void
  /** a handler threw; the request was answered EIO if it was still open */
  failed(operation: string, error: unknown): void
}

export interface SessionOptions {
  /** bytes of the path, absolute */
  mountpoint: Buffer
  /** what follows -o: 'ro', 'fsname=...', 'subtype=daybook', 'allow_other', 'default_permissions', 'nosuid', 'nodev', ... */
  mountOptions: string[]
  /** ask the kernel to enforce and cache POSIX ACLs (implies default_permissions) */
  posixAcl: boolean
  /** shown instead of every node's owner */
  owner?: { uid: number, gid: number }
  handlers: SessionHandlers
}
export interface SessionConstructor { new (options: SessionOptions): NativeSession }

/** [nodeid, offset in the file, blob, start in the blob, length] */
export type Push = [NodeId, number, NativeBlob, number, number]

export interface NativeSession {
  /** mounts, and serves from the event loop; throws Error with code and errno when the mount fails */
  mount(): void
  /** device number (st_dev) of the mount, once mounted */
  readonly device: { major: number, minor: number }
  /** answers everything open with EIO, stops polling, unmounts if still mounted (`lazy`: MNT_DETACH / fusermount3 -z), frees. Idempotent. */
  close(): void

  replyError(request: RequestId, errno: number): void
  /** rows[position] as `node`. TTLs in seconds, Infinity allowed. `ino` replaces the row's (directories). Answers lookups. */
  replyEntry(request: RequestId, node: NodeId, rows: Uint8Array, position: number, ino: bigint | null, attrTtl: number, entryTtl: number): void
  /** the name does not exist; the kernel may believe so for entryTtl seconds (0: answered ENOENT, not cached) */
  replyNegative(request: RequestId, entryTtl: number): void
  replyAttr(request: RequestId, rows: Uint8Array, position: number, ino: bigint | null, attrTtl: number): void
  /**
   * Fill the answer to readdirplus from rows, as the request asked for it (offset, size).
   * Nodeids: of non-directories fileBase + position (+ bit 50 where the row has no xattrs); of the k-th directory DIR | (directoryBase + k), its ino
   * directoryIno(ino, position). `nodes`, where given (directories of our own making), replaces both: nodeid per position, and inos are the rows'.
   * `ttl`: seconds, of entries and attributes. `immutable`: nothing ever changes here, so a request that begins behind the last entry is answered without asking.
   * @returns number of entries put in (with '.' and '..'): 0 at the end
   */
  replyDirents(request: RequestId, rows: Uint8Array, listing: {
    ino: bigint, parentIno: bigint, fileBase: number, directoryBase: number, nodes: Float64Array | null, ttl: number, immutable: boolean }): number
  /** read, readlink, getxattr, listxattr: these bytes */
  replyBytes(request: RequestId, bytes: Uint8Array): void
  /** read: parts of blobs in file order, gathered by writev without a copy; null is a run of zeros: [blob | null, start, length, ...] */
  replyBlobs(request: RequestId, parts: (NativeBlob | null | number)[]): void
  /** getxattr, listxattr asked with size 0 */
  replySize(request: RequestId, size: number): void
  replyOffset(request: RequestId, offset: number): void
  replyStatfs(request: RequestId, stat: { blocks: number, bfree: number, files: number, ffree: number, bsize: number, namemax: number }): void

  /** names of xattrs answered EOPNOTSUPP without asking (they are known to be on no node); `others`: getxattr of a bit-50 node is ENODATA */
  setAbsentXattrs(names: string[]): void
  /**
   * Put bytes into the kernel's page cache (FUSE_NOTIFY_STORE) from the session's own notification thread, in order.
   * Neighbours in one file that follow each other in `items` are stored as one run. The blobs may be freed meanwhile. @returns how many were taken; a node the kernel does not know is not an error
   */
  push(items: Push[]): Promise<number>
  /** From the same thread. Resolves when sent; ENOENT (not cached) is not an error. */
  invalidateEntry(parent: NodeId, name: Buffer): Promise<void>
  invalidateNode(node: NodeId): Promise<void>
  /** counts since the start: requests by operation, bytes read, pushed, answers in C++ alone */
  stats(): Record<string, number>
}

const require = createRequire(import.meta.url)
/** dist/src/native.js -> build/Release */
export const native: Native = require('../../build/Release/daybook.node')
