import { writeFileSync } from 'node:fs'
import type { Logger } from '../util/log.js'

/**
 * The kernel never asks a FUSE server for more than max_pages (1 MiB) at once, and for no more than this file allows.
 * Its own default of 128 KiB makes eight requests of one.
 */
const READ_AHEAD_KB = 1024

/** Let the kernel read a mount in pieces of 1 MiB. Only root may; for others, and in containers where /sys is read-only, nothing changes. */
export function raiseReadAhead(device: { major: number, minor: number }, log: Logger): boolean {
  const file = `/sys/class/bdi/${device.major}:${device.minor}/read_ahead_kb`
  try {
    writeFileSync(file, `${READ_AHEAD_KB}\n`)
    return true
  } catch (error) {
    log.debug('kernel read-ahead stays as it is', { file, reason: (error as NodeJS.ErrnoException).code })
    return false
  }
}
