import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { join } from 'node:path'
import { StepError } from './timed.js'

/** A program that can mount the repository. */
export interface Mounter {
  readonly name: string
  /** argv that mounts `repository` at `mountpoint` in the foreground */
  readonly command: (mount: { repository: string, passwordFile: string, cacheDir: string, mountpoint: string }) => string[]
  /** where the newest snapshot is below the mountpoint */
  readonly latest: string
}

export function resticMounter(path: string): Mounter {
  return {
    name: 'restic',
    command: ({ repository, passwordFile, cacheDir, mountpoint }) =>
      [path, '--repo', repository, '--password-file', passwordFile, '--cache-dir', cacheDir, '--no-lock', '--quiet', 'mount', mountpoint],
    latest: 'snapshots/latest',
  }
}

export function daybookMounter(path: string): Mounter {
  return {
    name: 'daybook',
    command: ({ repository, passwordFile, cacheDir, mountpoint }) =>
      [path, '--repo', repository, '--password-file', passwordFile, '--cache-dir', cacheDir, '--quiet', 'mount', mountpoint],
    latest: 'latest',
  }
}

export interface Memory {
  /** resident now and at most, MB (10^6), the process and its children together */
  readonly residentMB: number
  readonly peakMB: number
}

const mounts = new Set<Mounted>()

/** A mount process in the foreground, and its mountpoint. */
export class Mounted {
  #stopped = false

  private constructor(readonly mountpoint: string, readonly latest: string, readonly startedAt: bigint, readonly readySeconds: number, private readonly child: ChildProcess,
    private readonly complaints: () => string) {}

  /** Start `mounter` and wait until the mount is in the mount table. */
  static async start(mounter: Mounter, repository: { repository: string, passwordFile: string }, folder: string, cacheDir: string, limitSeconds: number): Promise<Mounted> {
    const mountpoint = mkdtempSync(join(folder, `${mounter.name}-`))
    const [program, ...args] = mounter.command({ ...repository, cacheDir, mountpoint })
    const startedAt = process.hrtime.bigint()
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let text = ''
    child.stderr.setEncoding('utf8').on('data', (more: string) => { if (text.length < 10_000) text += more })
    let ended = false
    child.on('exit', () => { ended = true }).on('error', error => { ended = true; text += error.message })

    const seconds = () => Number(process.hrtime.bigint() - startedAt) / 1e9
    const mounted = () => new Mounted(mountpoint, join(mountpoint, mounter.latest), startedAt, seconds(), child, () => text)
    while (!isMounted(mountpoint)) {
      if (ended || seconds() > limitSeconds) {
        await mounted().stop()
        throw new StepError(ended ? `${mounter.name} ended: ${text.trim().split('\n').at(-1)}` : `${mounter.name} not ready after ${limitSeconds} s`)
      }
      await delay(2)
    }
    const result = mounted()
    mounts.add(result)
    return result
  }

  memory(): Memory {
    let residentKB = 0
    let peakKB = 0
    for (const pid of withChildren(this.child.pid!)) {
      const status = readStatus(pid)
      residentKB += Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0)
      peakKB += Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0)
    }
    return { residentMB: residentKB * 1024 / 1e6, peakMB: peakKB * 1024 / 1e6 }
  }

  get stderr(): string {
    return this.complaints()
  }

  /** Ask for an end, insist after 10 s; nothing is left behind. */
  async stop(): Promise<void> {
    if (this.#stopped) return
    if (this.child.exitCode === null && this.child.signalCode === null && this.child.pid !== undefined) {
      const ended = new Promise(resolve => this.child.once('exit', resolve))
      this.child.kill('SIGINT')
      await Promise.race([ended, delay(10_000)])
    }
    this.stopNow()
  }

  /** The same without waiting, for the way out. */
  stopNow(): void {
    if (this.#stopped) return
    this.#stopped = true
    mounts.delete(this)
    if (this.child.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null) {
      for (const pid of withChildren(this.child.pid)) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // It has just ended.
        }
      }
    }
    for (let attempt = 0; attempt < 5 && isMounted(this.mountpoint); attempt++) {
      abortConnection(this.mountpoint)
      if (spawnSync('fusermount3', ['-u', '-z', this.mountpoint], { stdio: 'ignore' }).status !== 0) spawnSync('umount', ['-l', this.mountpoint], { stdio: 'ignore' })
    }
    try {
      rmdirSync(this.mountpoint)
    } catch {
      // A lazy unmount may hold it a moment longer; the scratch folder is removed as a whole.
    }
  }
}

export function stopAllMounts(): void {
  for (const mounted of [...mounts]) mounted.stopNow()
}

function mountLine(mountpoint: string): string[] | undefined {
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map(line => line.split(' ')).find(fields => fields[4] === mountpoint)
}

function isMounted(mountpoint: string): boolean {
  return mountLine(mountpoint) !== undefined
}

/** Whoever waits for a dead mount gets an error instead of waiting for ever. */
function abortConnection(mountpoint: string): void {
  const device = mountLine(mountpoint)?.[2].split(':')[1]
  const path = `/sys/fs/fuse/connections/${device}/abort`
  try {
    if (existsSync(path)) writeFileSync(path, '1')
  } catch {
    // Not ours to abort (not root): the lazy unmount has to do.
  }
}

function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch {
    return ''
  }
}

function withChildren(pid: number): number[] {
  const parents = new Map<number, number[]>()
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const parent = Number(/^PPid:\s+(\d+)/m.exec(readStatus(Number(entry)))?.[1] ?? -1)
    parents.set(parent, [...parents.get(parent) ?? [], Number(entry)])
  }
  const found = [pid]
  for (let at = 0; at < found.length; at++) found.push(...parents.get(found[at]) ?? [])
  return found
}
