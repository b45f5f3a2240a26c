import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { stopAllMounts } from './mounted.js'
import { killRunningSteps } from './timed.js'

export interface Folders {
  /** in memory */
  readonly scratch: string
  /** where users have caches, on the disk beside the repository: in memory they could not be cold */
  readonly caches: string
  readonly mountpoints: string
}

/** Of one run. With the process, however it ends, what runs is ended, what is mounted unmounted, and the folders removed. */
export function makeFolders(base: string): Folders {
  const scratch = mkdtempSync('/dev/shm/daybook-bench-')
  const caches = mkdtempSync(join(base, 'caches-'))
  const mountpoints = join(scratch, 'mnt')
  mkdirSync(mountpoints)
  process.on('exit', () => {
    killRunningSteps()
    stopAllMounts()
    rmSync(scratch, { recursive: true, force: true })
    rmSync(caches, { recursive: true, force: true })
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1))
  return { scratch, caches, mountpoints }
}
