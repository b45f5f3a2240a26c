import { fstatSync, ftruncateSync, writeSync } from 'node:fs'

/** A mount logs a few lines a day; one that logs this much is in trouble and must not fill the disk as well. */
const MAX_LOG_BYTES = 8 << 20

/**
 * Writes lines to a descriptor opened for appending, at once, so that the last line before a crash is there. A file that has grown too long
 * starts anew. Never throws: a full disk or a closed terminal must not stop a mount.
 */
export function logWriter(fd: number, maxBytes = MAX_LOG_BYTES): (line: string) => void {
  let written = 0
  return line => {
    try {
      written += Buffer.byteLength(line)
      if (written >= maxBytes >> 3) {
        written = 0
        const stat = fstatSync(fd)
        if (stat.isFile() && stat.size >= maxBytes) ftruncateSync(fd, 0)
      }
      writeSync(fd, line)
    } catch { /* see above */ }
  }
}
