import { readFileSync } from 'node:fs'
import { constants } from 'node:os'

const { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGKILL } = constants.signals
/** What people and supervisors send to end a program. */
const ENDING = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGKILL].map(signal => 1n << BigInt(signal - 1)).reduce((a, b) => a | b)

/**
 * Does a signal that is pending for this thread mean to end what it does? The kernel reports every signal as an interrupt, also the timers and
 * pre-emption signals that runtimes send themselves (Go's SIGURG); a read that fails with EINTR for those is an I/O error to most programs (restic #3567),
 * while one that waits for a dead remote through Ctrl-C cannot be got rid of.
 * @param thread as FUSE gives it; 0 if it is not visible from here. /proc/<pid>/status has the masks in hex (proc(5)).
 */
export function isEnding(thread: number): boolean {
  try {
    const status = readFileSync(`/proc/${thread}/status`, 'latin1')
    const mask = (name: string) => BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)`, 'm').exec(status)?.[1] ?? '0'}`)
    const pending = mask('SigPnd') | mask('ShdPnd')
    // a fatal signal is turned into a pending SIGKILL of every thread
    return (pending & ENDING & ~mask('SigIgn')) !== 0n
  } catch {
    return true
  }
}
