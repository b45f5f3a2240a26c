import { spawn } from 'node:child_process'

export type Liveness =
  /** somebody answers */
  | 'alive'
  /** the process that served it is gone (ENOTCONN) */
  | 'dead'
  /** no answer in time */
  | 'hung'
  /** an answer, but not one for us (another user's mount) */
  | 'denied'

/** A healthy file system answers in microseconds; one that waits for a remote within seconds. */
const PROBE_MS = 5000

/**
 * Does the file system at `path` answer? Asked by a child process, since a thread of ours that waits in the kernel for a dead server would
 * keep this process from ending. statfs(2), not stat(2): attributes may come from the kernel's cache long after the server is gone.
 */
export function probe(path: string, timeLimitMs = PROBE_MS): Promise<Liveness> {
  return new Promise(resolve => {
    const child = spawn('stat', ['-f', '--', path], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, LC_ALL: 'C' } })
    const timer = setTimeout(() => { child.kill('SIGKILL'); child.unref(); child.stderr.destroy(); resolve('hung') }, timeLimitMs)
    let said = ''
    child.stderr.setEncoding('latin1').on('data', text => { said += text })
    child.on('error', () => { clearTimeout(timer); resolve('alive') })
    child.on('close', status => {
      clearTimeout(timer)
      resolve(status === 0 ? 'alive' : /not connected/i.test(said) ? 'dead' : /permission denied/i.test(said) ? 'denied' : 'alive')
    })
  })
}
