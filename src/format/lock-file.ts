import { CorruptError } from '../errors.js'
import { parseObject } from './json.js'
import { parseTimestamp } from './time.js'

/** Who works on a repository, and whether others may at the same time. */
export interface LockFile {
  /** ms since 1970: when it was last refreshed */
  readonly timeMs: number
  readonly exclusive: boolean
  readonly hostname: string
  readonly username: string
  readonly pid: number
}

/** Decode a decrypted lock file. @throws CorruptError: it cannot be told whether it may be ignored then */
export function decodeLockFile(name: string, json: Uint8Array): LockFile {
  const file = `lock ${name}`
  const { time, exclusive, hostname, username, pid } = parseObject(file, json)
  const moment = typeof time === 'string' ? parseTimestamp(time) : null
  if (!moment || typeof exclusive !== 'boolean') throw new CorruptError(file, 'not a lock')
  return {
    timeMs: moment.ms, exclusive, hostname: typeof hostname === 'string' ? hostname : '', username: typeof username === 'string' ? username : '',
    pid: Number.isSafeInteger(pid) ? pid as number : 0,
  }
}

/** @param time RFC3339 */
export function encodeLockFile({ exclusive, hostname, username, pid }: Omit<LockFile, 'timeMs'>, time: string, uid: number, gid: number): Buffer {
  return Buffer.from(JSON.stringify({ time, exclusive, hostname, username, pid, uid: uid || undefined, gid: gid || undefined }))
}
