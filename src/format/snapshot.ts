import { CorruptError } from '../errors.js'
import { idBytes, isIdName } from '../util/hex.js'
import { parseObject } from './json.js'
import { parseTimestamp } from './time.js'

/** One backup. A SnapshotEntry of fs/sources.ts, and what else the file says. */
export interface Snapshot {
  /** 64 hex digits: the name of its file */
  readonly id: string
  /** 32 bytes */
  readonly tree: Buffer
  /** ms since 1970, and nanoseconds within that ms */
  readonly timeMs: number
  readonly timeNs: number
  /** zone of the machine backed up, minutes east of UTC */
  readonly zoneMinutes: number
  /** as it was written, RFC3339 */
  readonly time: string
  readonly hostname: string
  readonly username: string
  readonly tags: readonly string[]
  readonly paths: readonly string[]
  /** 64 hex digits */
  readonly parent: string | null
  /** the snapshot this one was rewritten from, 64 hex digits */
  readonly original: string | null
  readonly programVersion: string
  /** statistics as the writing program left them; fields differ by program and version */
  readonly summary: unknown
}

/**
 * Decode a decrypted snapshot file. Only what cannot be done without must be right: the time and the tree. Everything else is
 * taken where it has the right type, else left empty: other programs write restic's format with gaps.
 * @throws CorruptError
 */
export function decodeSnapshot(id: string, json: Uint8Array): Snapshot {
  const file = `snapshot ${id}`
  const snapshot = parseObject(file, json)
  if (typeof snapshot.tree !== 'string' || !isIdName(snapshot.tree.toLowerCase())) throw new CorruptError(file, 'no tree')
  const time = typeof snapshot.time === 'string' ? parseTimestamp(snapshot.time) : null
  if (!time) throw new CorruptError(file, 'no time')
  return {
    id,
    tree: idBytes(snapshot.tree.toLowerCase()),
    timeMs: time.ms,
    timeNs: time.ns,
    zoneMinutes: time.zoneMinutes,
    time: snapshot.time as string,
    hostname: text(snapshot.hostname),
    username: text(snapshot.username),
    tags: texts(snapshot.tags),
    paths: texts(snapshot.paths),
    parent: idOrNull(snapshot.parent),
    original: idOrNull(snapshot.original),
    programVersion: text(snapshot.program_version),
    summary: snapshot.summary ?? null,
  }
}

/** Oldest first; those of the same moment by id, so that every reader finds the same order. */
export function compareSnapshots(a: Snapshot, b: Snapshot): number {
  return a.timeMs - b.timeMs || a.timeNs - b.timeNs || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(item => typeof item === 'string') : []
}

function idOrNull(value: unknown): string | null {
  return typeof value === 'string' && isIdName(value) ? value : null
}

/** Statistics of a backup, named as restic names them. Sizes in bytes. */
export interface SnapshotSummary {
  readonly backup_start: string
  readonly backup_end: string
  readonly files_new: number
  readonly files_changed: number
  readonly files_unmodified: number
  readonly dirs_new: number
  readonly dirs_changed: number
  readonly dirs_unmodified: number
  readonly data_blobs: number
  readonly tree_blobs: number
  readonly data_added: number
  readonly data_added_packed: number
  readonly total_files_processed: number
  readonly total_bytes_processed: number
}

/** A snapshot that is to be written. */
export interface NewSnapshot {
  readonly time: string
  /** 64 hex digits */
  readonly parent: string | null
  /** 64 hex digits */
  readonly tree: string
  readonly paths: readonly string[]
  readonly hostname: string
  readonly username: string
  readonly uid: number
  readonly gid: number
  readonly excludes: readonly string[]
  readonly tags: readonly string[]
  readonly programVersion: string
  readonly summary: SnapshotSummary
}

/** The JSON of a snapshot, with what is empty left out, as restic has it. */
export function encodeSnapshot(snapshot: NewSnapshot): Buffer {
  const { time, parent, tree, paths, hostname, username, uid, gid, excludes, tags, programVersion, summary } = snapshot
  const list = (items: readonly string[]) => items.length > 0 ? items : undefined
  return Buffer.from(JSON.stringify({
    time, parent: parent ?? undefined, tree, paths, hostname: hostname || undefined, username: username || undefined, uid: uid || undefined, gid: gid || undefined,
    excludes: list(excludes), tags: list(tags), program_version: programVersion, summary,
  }))
}
