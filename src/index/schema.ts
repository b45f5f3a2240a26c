/** Part of the folder's name (location.ts): indexes of different versions lie side by side, so a running process of another version is never disturbed. */
export const SCHEMA_VERSION = 1
/** 'DBIX'; at byte 68 of the file, where file(1) shows it */
export const APPLICATION_ID = 0x44424958
/** 8 KiB against 4: the first load of 1.2 million blobs took 4.6 s instead of 5.6, and most rows of small directories fit into a page. */
export const PAGE_SIZE = 8192

/**
 * `pack` numbers stand for pack names (32 bytes) to keep blob rows small; meta.nextPack gives them out, none twice, starting at random
 * so that a number remembered from before a reset means nothing afterwards.
 *
 * Blobs are kept by id without a rowid: one descent finds all copies, 66 bytes per blob on disk.
 * Measured against it with 1.2 million: 64-bit prefix as rowid 91 MB and slower to look up; rows by pack with an index of prefixes 98 MB and half as fast cold.
 *
 * packs.missing counts the tree blobs of a pack whose rows are not stored, kept up to date in the transaction that changes either.
 * packs.gone marks packs which are no longer listed, until their blobs have been removed piece by piece.
 * index_files.complete is 0 while an index file is being added; the row with an empty name stands for packs known from their own header.
 * meta 'flags' is the OR of RowsFlag over tree_rows, twice over (storedFlags); 'boot' the run of the kernel in which all was last checked (migrate.ts).
 * meta 'count:<table>' is the number of rows there must be: pages lost with the power leave a sound tree with fewer.
 */
export const SCHEMA = `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

  CREATE TABLE index_files (
    file INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, complete INTEGER NOT NULL, started INTEGER NOT NULL);
  CREATE TABLE index_packs (
    file INTEGER NOT NULL, pack INTEGER NOT NULL, to_delete INTEGER NOT NULL, PRIMARY KEY (file, pack)) WITHOUT ROWID;
  CREATE INDEX index_packs_pack ON index_packs (pack, to_delete);

  CREATE TABLE packs (
    pack INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, checksum INTEGER NOT NULL,
    to_delete INTEGER NOT NULL DEFAULT 0, missing INTEGER NOT NULL DEFAULT 0, tried INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0);
  CREATE INDEX packs_missing ON packs (to_delete, pack DESC) WHERE missing > 0;
  CREATE INDEX packs_gone ON packs (pack) WHERE gone = 1;

  CREATE TABLE data_blobs (
    id BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL, plain_length INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (id, pack, offset)) WITHOUT ROWID;
  CREATE TABLE tree_blobs (
    id BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL, plain_length INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (id, pack, offset)) WITHOUT ROWID;
  CREATE INDEX tree_blobs_pack ON tree_blobs (pack, offset);

  CREATE TABLE tree_rows (
    n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, checksum INTEGER NOT NULL, rows BLOB NOT NULL);

  CREATE TABLE snapshots (name TEXT PRIMARY KEY, json TEXT NOT NULL, checksum INTEGER NOT NULL);
  CREATE TABLE day_names (
    view TEXT NOT NULL, snapshot TEXT NOT NULL, name TEXT NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (view, snapshot)) WITHOUT ROWID;
`

/** Tables whose rows are counted in meta. */
export const COUNTED = ['index_packs', 'packs', 'data_blobs', 'tree_blobs'] as const
export type Counted = typeof COUNTED[number]

/** Flags with their own check: the same 16 bits twice. An OR of such values is such a value. */
export function storedFlags(flags: number): number { return (flags & 0x7fff) * 0x10001 }
/** @returns null if they are damaged */
export function flagsOf(stored: number): number | null { return stored === storedFlags(stored & 0x7fff) ? stored & 0x7fff : null }
