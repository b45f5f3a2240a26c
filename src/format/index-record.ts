/**
 * A blob of an index file in compact form, for files hold 50,000 and repositories have thousands of files: no object, no string per blob.
 *
 *   record, 56 bytes, little-endian
 *     0 id, 32 bytes   32 u32 ordinal of its pack   36 u32 type (IndexBlobType)
 *    40 u32 length (with 32 of IV and MAC)   44 u32 plain length if compressed, else 0   48 f64 offset in the pack, a safe integer
 *
 * Shared with native/index_json.h. Apart from index-file.ts, which loads the addon: the thread that writes the local index does without.
 */
export const INDEX_RECORD_LENGTH = 56
export const IndexBlobType = { data: 0, tree: 1 } as const
