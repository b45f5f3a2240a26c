import { CorruptError } from '../errors.js'
import { native } from '../native.js'

/**
 * Rows: a tree (one directory of a snapshot) in the compact form in which it is kept in the local index, held in memory and
 * written to the kernel by the addon. Made by native/tree_json.cc from a tree's JSON and by encodeRows() for directories of
 * our own making. All numbers little-endian; offsets in bytes from the start of the rows.
 *
 *   header, 64 bytes
 *      0 u32 magic 'DBR1' = 0x31524244    4 u32 total length      8 u64 checksum of everything behind byte 16 (native HashRows)
 *     16 u32 count                       20 u32 directories      24 u32 flags, OR of RowsFlag
 *     28 u32 skipped (bad entries left out)                      32 u32 offset of a 32-byte tree id whose content replaces this tree, or 0
 *     36 u32 reserved ...
 *   records, count x 112 bytes, ascending by raw bytes of the name, no duplicates
 *      0 u64 ino       8 u64 size      16 u64 blocks (512 bytes, holes left out)
 *     24 i64 mtime s  32 i64 atime s   40 i64 ctime s   48 u32 mtime ns  52 u32 atime ns  56 u32 ctime ns
 *     60 u32 mode (st_mode)            64 u32 nlink     68 u32 uid       72 u32 gid       76 u32 rdev (kernel new_encode_dev)
 *     80 u32 name offset               84 u16 name length                86 u16 flags (RowFlag)
 *     88 u32 ordinal among the directories, 0xffffffff for others
 *     92 u32 offset: file: content ids; directory: subtree id (32 bytes); symlink: target
 *     96 u32 count: file: number of content ids (32 bytes each); directory: 1, or 0 if it has no subtree; symlink: length of the target
 *    100 u32 xattr offset             104 u32 xattr length
 *        xattrs: repeated [u16 name length | u32 value length | name | value]
 *    108 u32 reserved
 *   heap: names, ids, targets, xattrs
 *
 * ino of non-directories: first 8 bytes (little-endian) of SHA-256 over
 *   u64 device_id | u64 inode | u8 st_mode >> 12 | i64 mtime s | u32 mtime ns | i64 ctime s | u32 ctime ns | u64 size | content ids of a file
 * so hard links agree wherever they are and an unchanged file keeps its number in every snapshot; over tree id (32 bytes) | name where the node has no
 * inode number. 0 and 1 become 2 and 3. Of directories it is 0 and not used: see native directoryIno.
 *
 * What becomes of a node that is not as it should be:
 *   left out, counted in `skipped`: no object; no name, or a name that is empty, '..', over 255 bytes, or holds '/' or NUL; a type that is
 *     not one of restic's seven (so 'irregular' and ''); a file with one bad content id or a size that is no integer below 2^63; a target
 *     over 4095 bytes; the second of two equal names
 *   '.' and '/': a directory of that name with a subtree is not counted: the first one gives `replacement`. Others are left out and counted
 *   repaired, flagged damaged: a time to 1970, uid and gid to 65534, mode bits and inode to 0, links to 1, device to the bits that fit,
 *     linktarget_raw to linktarget, a target to what stands before its first NUL; an xattr Linux could not hold (name empty, over 255 bytes,
 *     with NUL or used before; value no base64 or over 64 KiB) is left out
 *   flagged damaged as it is: `error` set by restic, a directory without subtree, a file with size but without content, an empty target
 * Absent or null: times 1970, numbers 0, links 1. Directories: nlink 1 ("unknown" to find and fts), size 4096, blocks 8; symlinks: size is
 * the target's length. Blocks of files: ceil(size / 512) less 1024 for each content id of 512 KiB of zeros. Names that do not unquote are
 * taken as they stand. Duplicate keys: the last wins.
 */
export const ROWS_MAGIC = 0x31524244
export const HEADER_LENGTH = 64
export const RECORD_LENGTH = 112

export const RowsFlag = {
  /** some node has extended attributes */ xattr: 1,
  /** ... of which system.posix_acl_access or system.posix_acl_default */ acl: 2,
  /** ... of which security.selinux */ selinux: 4,
} as const

export const RowFlag = {
  directory: 1, xattr: 2, symlink: 4, regular: 8,
  /** restic could not read the file wholly, or the node was repaired here (size, mode) */ damaged: 16,
} as const

const NO_ORDINAL = 0xffffffff
const ID_LENGTH = 32
const S_IFMT = 0o170000, S_IFDIR = 0o040000, S_IFREG = 0o100000, S_IFLNK = 0o120000

/** Seconds since 1970, rounded down, and nanoseconds 0..999999999. */
export type Time = readonly [bigint, number]
export interface Xattr { name: Buffer, value: Buffer }

/**
 * A view of rows; holds nothing but the bytes, and what it returns are views of them too. A damaged offset gives an empty answer;
 * native.verifyRows() tells whether to use the bytes at all.
 */
export class TreeRows {
  readonly bytes: Buffer
  readonly count: number
  /** how many of the rows are directories */
  readonly directories: number
  /** OR of RowsFlag */
  readonly flags: number
  /** nodes left out because they were bad */
  readonly skipped: number
  #directoryPositions: Uint32Array | null = null

  /** @throws CorruptError if the header does not describe exactly these bytes (the checksum is not looked at) */
  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const fits = bytes.length >= HEADER_LENGTH && this.bytes.readUInt32LE(0) === ROWS_MAGIC && this.bytes.readUInt32LE(4) === bytes.length
      && HEADER_LENGTH + this.bytes.readUInt32LE(16) * RECORD_LENGTH <= bytes.length && this.bytes.readUInt32LE(32) <= bytes.length - ID_LENGTH
    if (!fits) throw new CorruptError('tree rows', `header does not fit ${bytes.length} bytes`)
    this.count = this.bytes.readUInt32LE(16)
    this.directories = this.bytes.readUInt32LE(20)
    this.flags = this.bytes.readUInt32LE(24)
    this.skipped = this.bytes.readUInt32LE(28)
  }

  /** Id of the tree whose content stands for this one (a directory backed up as '.' or '/' by old restic), or null. */
  get replacement(): Buffer | null {
    const offset = this.bytes.readUInt32LE(32)
    return offset === 0 ? null : this.#slice(offset, ID_LENGTH)
  }

  /** Position of a name, -1 if absent. */
  find(name: Uint8Array): number { return native.findRow(this.bytes, name) }

  name(position: number): Buffer {
    const at = this.#record(position)
    return this.#slice(this.bytes.readUInt32LE(at + 80), this.bytes.readUInt16LE(at + 84))
  }
  /** OR of RowFlag */
  rowFlags(position: number): number { return this.bytes.readUInt16LE(this.#record(position) + 86) }
  isDirectory(position: number): boolean { return (this.rowFlags(position) & RowFlag.directory) !== 0 }
  isRegular(position: number): boolean { return (this.rowFlags(position) & RowFlag.regular) !== 0 }
  isSymlink(position: number): boolean { return (this.rowFlags(position) & RowFlag.symlink) !== 0 }
  isDamaged(position: number): boolean { return (this.rowFlags(position) & RowFlag.damaged) !== 0 }

  ino(position: number): bigint { return this.bytes.readBigUInt64LE(this.#record(position)) }
  /** Bytes; above 2^53 the nearest number. */
  size(position: number): number { return this.#u64(this.#record(position) + 8) }
  /** Of 512 bytes, holes left out. */
  blocks(position: number): number { return this.#u64(this.#record(position) + 16) }
  /** st_mode */
  mode(position: number): number { return this.bytes.readUInt32LE(this.#record(position) + 60) }
  nlink(position: number): number { return this.bytes.readUInt32LE(this.#record(position) + 64) }
  uid(position: number): number { return this.bytes.readUInt32LE(this.#record(position) + 68) }
  gid(position: number): number { return this.bytes.readUInt32LE(this.#record(position) + 72) }
  rdev(position: number): { major: number, minor: number } {
    const rdev = this.bytes.readUInt32LE(this.#record(position) + 76)
    return { major: rdev >>> 8 & 0xfff, minor: rdev & 0xff | rdev >>> 12 & 0xfff00 }
  }
  mtime(position: number): Time { return this.#time(position, 24, 48) }
  atime(position: number): Time { return this.#time(position, 32, 52) }
  ctime(position: number): Time { return this.#time(position, 40, 56) }

  /** Which of the directories this one is, -1 for others. */
  ordinal(position: number): number {
    const ordinal = this.bytes.readUInt32LE(this.#record(position) + 88)
    return ordinal === NO_ORDINAL ? -1 : ordinal
  }
  /** Positions of the directories, by ordinal. */
  get directoryPositions(): Uint32Array {
    if (this.#directoryPositions === null) {
      const positions: number[] = []
      for (let position = 0; position < this.count; position++) if (this.isDirectory(position)) positions.push(position)
      this.#directoryPositions = Uint32Array.from(positions)
    }
    return this.#directoryPositions
  }

  /** Tree id of a directory, null for others and where restic could not read it. */
  subtree(position: number): Buffer | null {
    if (!this.isDirectory(position) || this.#dataCount(position) !== 1) return null
    const id = this.#data(position, ID_LENGTH)
    return id.length === ID_LENGTH ? id : null
  }
  /** Blob ids of a file, 32 bytes each, in file order. */
  content(position: number): Buffer {
    return this.isRegular(position) ? this.#data(position, this.#dataCount(position) * ID_LENGTH) : this.bytes.subarray(0, 0)
  }
  contentCount(position: number): number { return this.isRegular(position) ? this.#dataCount(position) : 0 }
  /** Of a symlink; empty for others. */
  target(position: number): Buffer {
    return this.isSymlink(position) ? this.#data(position, this.#dataCount(position)) : this.bytes.subarray(0, 0)
  }
  hasXattrs(position: number): boolean { return (this.rowFlags(position) & RowFlag.xattr) !== 0 }
  xattrs(position: number): Xattr[] {
    const at = this.#record(position)
    const bytes = this.#slice(this.bytes.readUInt32LE(at + 100), this.bytes.readUInt32LE(at + 104))
    const xattrs: Xattr[] = []
    for (let next = 0; next + 6 <= bytes.length;) {
      const name = next + 6, value = name + bytes.readUInt16LE(next), end = value + bytes.readUInt32LE(next + 2)
      if (end > bytes.length) break
      xattrs.push({ name: bytes.subarray(name, value), value: bytes.subarray(value, end) })
      next = end
    }
    return xattrs
  }

  #record(position: number): number {
    if (!(position >= 0 && position < this.count)) throw new RangeError(`no row ${position} of ${this.count}`)
    return HEADER_LENGTH + position * RECORD_LENGTH
  }
  #slice(offset: number, length: number): Buffer {
    return offset + length <= this.bytes.length ? this.bytes.subarray(offset, offset + length) : this.bytes.subarray(0, 0)
  }
  #dataCount(position: number): number { return this.bytes.readUInt32LE(this.#record(position) + 96) }
  #data(position: number, length: number): Buffer { return this.#slice(this.bytes.readUInt32LE(this.#record(position) + 92), length) }
  #u64(at: number): number { return this.bytes.readUInt32LE(at) + this.bytes.readUInt32LE(at + 4) * 2 ** 32 }
  #time(position: number, seconds: number, nanoseconds: number): Time {
    const at = this.#record(position)
    return [this.bytes.readBigInt64LE(at + seconds), this.bytes.readUInt32LE(at + nanoseconds)]
  }
}

/** A row to be encoded. What is left out is 0, empty, or what a node from a backup would have. */
export interface RowEntry {
  name: Buffer
  /** st_mode with its type */
  mode: number
  ino: bigint
  mtime: Time
  /** default: mtime */
  atime?: Time
  ctime?: Time
  size?: number
  blocks?: number
  nlink?: number
  uid?: number
  gid?: number
  rdev?: { major: number, minor: number }
  /** of a symlink */
  target?: Buffer
  /** of a directory */
  subtree?: Buffer
  /** of a file: ids, 32 bytes each */
  content?: Buffer
  xattrs?: Xattr[]
  damaged?: boolean
}

/** A row as it would be encoded again, for a directory of our own making that shows it under another name. */
export function rowEntry(rows: TreeRows, position: number): RowEntry {
  const entry: RowEntry = {
    name: rows.name(position), mode: rows.mode(position), ino: rows.ino(position), size: rows.size(position), blocks: rows.blocks(position),
    mtime: rows.mtime(position), atime: rows.atime(position), ctime: rows.ctime(position), nlink: rows.nlink(position),
    uid: rows.uid(position), gid: rows.gid(position), rdev: rows.rdev(position), xattrs: rows.xattrs(position), damaged: rows.isDamaged(position),
  }
  if (rows.isRegular(position)) entry.content = rows.content(position)
  if (rows.isSymlink(position)) entry.target = rows.target(position)
  const subtree = rows.subtree(position)
  if (subtree !== null) entry.subtree = subtree
  return entry
}

/**
 * Rows of a directory of our own making, in any order, sealed.
 * @throws RangeError on a name that no directory can hold, or that is there twice
 */
export function encodeRows(entries: readonly RowEntry[]): Buffer {
  const sorted = [...entries].sort((a, b) => a.name.compare(b.name))
  const heap: Buffer[] = []
  let end = HEADER_LENGTH + sorted.length * RECORD_LENGTH
  const put = (bytes: Buffer): number => {
    heap.push(bytes)
    end += bytes.length
    return end - bytes.length
  }
  const records = Buffer.alloc(end)
  let directories = 0, flags = 0
  sorted.forEach((entry, position) => {
    checkName(entry.name, sorted[position - 1]?.name)
    const at = HEADER_LENGTH + position * RECORD_LENGTH
    const format = entry.mode & S_IFMT
    const ids = format === S_IFDIR ? entry.subtree : format === S_IFREG ? entry.content : undefined
    const data = format === S_IFLNK ? entry.target : ids
    const size = entry.size ?? (format === S_IFDIR ? 4096 : format === S_IFLNK ? data?.length ?? 0 : 0)
    const blocks = entry.blocks ?? (format === S_IFDIR || format === S_IFREG ? Math.ceil(size / 512) : 0)
    const { mtime, atime = mtime, ctime = mtime, xattrs = [], rdev = { major: 0, minor: 0 } } = entry
    if (ids !== undefined && (ids.length % ID_LENGTH !== 0 || format === S_IFDIR && ids.length !== ID_LENGTH)) throw new RangeError('an id has 32 bytes')

    records.writeBigUInt64LE(entry.ino, at)
    records.writeBigUInt64LE(BigInt(size), at + 8)
    records.writeBigUInt64LE(BigInt(blocks), at + 16)
    for (const [index, [seconds, nanoseconds]] of [mtime, atime, ctime].entries()) {
      records.writeBigInt64LE(seconds, at + 24 + 8 * index)
      records.writeUInt32LE(nanoseconds, at + 48 + 4 * index)
    }
    records.writeUInt32LE(entry.mode, at + 60)
    records.writeUInt32LE(entry.nlink ?? 1, at + 64)
    records.writeUInt32LE(entry.uid ?? 0, at + 68)
    records.writeUInt32LE(entry.gid ?? 0, at + 72)
    records.writeUInt32LE((rdev.minor & 0xff | rdev.major << 8 | (rdev.minor & 0xfff00) << 12) >>> 0, at + 76)
    records.writeUInt32LE(put(entry.name), at + 80)
    records.writeUInt16LE(entry.name.length, at + 84)
    records.writeUInt16LE(rowFlagsOf(format, entry), at + 86)
    records.writeUInt32LE(format === S_IFDIR ? directories++ : NO_ORDINAL, at + 88)
    if (data !== undefined && data.length > 0) {
      records.writeUInt32LE(put(data), at + 92)
      records.writeUInt32LE(format === S_IFLNK ? data.length : data.length / ID_LENGTH, at + 96)
    }
    if (xattrs.length > 0) {
      const bytes = encodeXattrs(xattrs)
      records.writeUInt32LE(put(bytes), at + 100)
      records.writeUInt32LE(bytes.length, at + 104)
      flags |= rowsFlagsOf(xattrs)
    }
  })
  records.writeUInt32LE(sorted.length, 16)
  records.writeUInt32LE(directories, 20)
  records.writeUInt32LE(flags, 24)
  const rows = Buffer.concat([records, ...heap])
  native.sealRows(rows)
  return rows
}

function checkName(name: Buffer, previous: Buffer | undefined): void {
  const text = name.toString('latin1')
  const possible = text !== '' && text !== '.' && text !== '..' && text.length <= 255 && !/[/\0]/.test(text)
  if (!possible) throw new RangeError(`impossible name '${name}'`)
  if (previous !== undefined && previous.equals(name)) throw new RangeError(`name '${name}' is there twice`)
}

function rowFlagsOf(format: number, entry: RowEntry): number {
  return (format === S_IFDIR ? RowFlag.directory : 0) | (format === S_IFLNK ? RowFlag.symlink : 0) | (format === S_IFREG ? RowFlag.regular : 0)
    | (entry.xattrs !== undefined && entry.xattrs.length > 0 ? RowFlag.xattr : 0) | (entry.damaged === true ? RowFlag.damaged : 0)
}

function rowsFlagsOf(xattrs: readonly Xattr[]): number {
  let flags: number = RowsFlag.xattr
  for (const { name } of xattrs) {
    const text = name.toString('latin1')
    if (text === 'system.posix_acl_access' || text === 'system.posix_acl_default') flags |= RowsFlag.acl
    if (text === 'security.selinux') flags |= RowsFlag.selinux
  }
  return flags
}

function encodeXattrs(xattrs: readonly Xattr[]): Buffer {
  return Buffer.concat(xattrs.flatMap(({ name, value }) => {
    const lengths = Buffer.alloc(6)
    lengths.writeUInt16LE(name.length, 0)
    lengths.writeUInt32LE(value.length, 2)
    return [lengths, name, value]
  }))
}
