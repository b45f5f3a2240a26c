import { spawn, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

export interface Timed {
  readonly seconds: number
  readonly output: string
}

/** Steps under way, so that an interrupted benchmark ends them, too. */
const running = new Set<number>()

/** A step that failed or took too long; the row shows it instead of a figure. */
export class StepError extends Error {
  override readonly name = 'StepError'
}

/** Run a shell command with arguments as $1, $2, ... and time it; killed with all its children when `limitSeconds` are over. */
export async function timed(command: string, args: readonly string[], limitSeconds: number): Promise<Timed> {
  const started = process.hrtime.bigint()
  const child = spawn('/bin/sh', ['-c', command, 'sh', ...args], { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: { ...process.env, LC_ALL: 'C' } })
  running.add(child.pid!)
  let output = ''
  let complaints = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { if (complaints.length < 2000) complaints += text })

  let late = false
  // Does not wait for the child's end: a process stuck in the kernel only dies once its mount does, and that is the caller's next step.
  const status = await new Promise<number | null>((resolve, reject) => {
    const timer = setTimeout(() => {
      late = true
      killGroup(child.pid!)
      resolve(null)
    }, limitSeconds * 1000)
    child.on('error', reject)
    child.on('close', code => {
      clearTimeout(timer)
      running.delete(child.pid!)
      resolve(code)
    })
  })
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  if (late) throw new StepError(`over ${limitSeconds} s`)
  if (status !== 0) throw new StepError(`failed: ${complaints.trim().split('\n')[0] || `status ${status}`}`)
  return { seconds, output }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has just ended.
  }
}

export function killRunningSteps(): void {
  for (const pid of running) killGroup(pid)
}

/** Empty the kernel's page, dentry and inode caches. False if we may not: "cold" then only means fresh processes. */
export function dropCaches(): boolean {
  spawnSync('sync')
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3')
    return true
  } catch {
    return false
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
