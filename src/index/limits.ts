/** Blobs per transaction: a few tens of milliseconds in which another process waits, and a log that stays near its limit. */
export const TRANSACTION_BLOBS = 10_000
/** bytes of rows per transaction */
export const TRANSACTION_BYTES = 4 << 20
/** Larger rows (two million entries in one directory) are not kept: they are decoded each time. */
export const MAX_ROWS_BYTES = 256 << 20
/** Parts into which a walk through all blobs is cut, by the first byte of the id. */
export const SLICES = 64
/** After an hour, an index file whose adding was begun is taken for abandoned. */
export const ABANDONED_SECONDS = 3600
