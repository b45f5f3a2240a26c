import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'

const DIRECTORIES_PER_GROUP = 100

/** Relative path of directory `n`: two levels, so that no directory has more than some hundred entries. */
function directoryOf(n: number): string {
  return `group${String(Math.floor(n / DIRECTORIES_PER_GROUP)).padStart(3, '0')}/dir${String(n).padStart(6, '0')}`
}

/**
 * Write `filesEach` tiny files into each of `directories` directories. Every content is different, so every file costs a blob
 * of its own in the index: what is large here is the metadata. Another `version` gives other contents for the same names.
 */
export async function writeLargeTree(root: string, directories: number, filesEach: number, version: number): Promise<void> {
  for (let d = 0; d < directories; d++) {
    // Signals are heard between directories.
    await setImmediate()
    const dir = join(root, directoryOf(d))
    mkdirSync(dir, { recursive: true })
    for (let f = 0; f < filesEach; f++) {
      writeFileSync(`${dir}/message-${String(f).padStart(2, '0')}.txt`, `version ${version}, directory ${d}, file ${f}\n`)
    }
  }
}
