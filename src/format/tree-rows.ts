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
 * ino of files: first 8 bytes (little-endian) of SHA-256 over device_id, inode, type, mtime, ctime, size and content ids, so hard links agree wherever
 * they are and an unchanged file keeps its number in every snapshot; of (tree id, name) where the node has no inode number. Never 0 or 1.
 * Of directories it is not used: see native directoryIno.
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
