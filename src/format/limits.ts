/** bytes of IV and MAC around every encrypted piece */
export const BLOB_OVERHEAD = 32

/**
 * Largest blob believed, in bytes, stored or plain. restic cuts files at 8 MiB; the JSON of a directory has no limit of its own,
 * and a million entries of some 700 bytes make 700 MB. A length above is damage, not a reason to allocate.
 */
export const MAX_BLOB_LENGTH = 1 << 30

/** Most bytes of files read whole, stored and plain. A snapshot with 100,000 excludes has 10 MB, an index file of 50,000 blobs about 10 MB. */
export const MAX_FILE_LENGTH = { config: 1 << 20, keys: 1 << 16, snapshots: 64 << 20, locks: 1 << 20, index: 256 << 20 } as const
