import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Logger } from '../util/log.js'

/** dist/src/mount/guard.js -> build/Release; native/guard.cc says what it does */
const PROGRAM = fileURLToPath(new URL('../../../build/Release/daybook-guard', import.meta.url))
/** What ends again and again does not get better by being started again. */
const MAX_FAILURES = 5

/**
 * A process beside this one, for all its mounts, that aborts their connections once this one's main thread is dead. Without it, a process killed while
 * a thread of it pushes pages leaves mounts on which every reader hangs. It lives while something is guarded; if it dies, the mounts go on.
 */
export class Guard {
  readonly #program: string
  /** connection numbers, oldest first; one may be there twice: the kernel gives it away again before we notice that a mount has gone */
  readonly #held: number[] = []
  #child: ChildProcess | null = null
  #failures = 0

  constructor(program = PROGRAM) { this.#program = program }

  /**
   * Have a connection aborted should this process be killed. On the main thread: the guard's parent is the thread that starts it.
   * @param connection the minor device number of the mount
   * @returns to be called when the mount has ended
   */
  hold(connection: number, log: Logger): () => void {
    this.#held.push(connection)
    if (this.#child !== null) this.#tell(`add ${connection}\n`)
    else if (this.#failures < MAX_FAILURES) this.#start(log)
    let released = false
    return () => {
      if (!released) this.#release(connection)
      released = true
    }
  }

  #release(connection: number): void {
    this.#held.splice(this.#held.indexOf(connection), 1)
    this.#tell(`remove ${connection}\n`)
    if (this.#held.length > 0) return
    this.#child?.stdin?.end()
    this.#child = null
  }

  #start(log: Logger): void {
    // A session of its own: what a terminal sends us is not for it. It has no need of an environment, and passwords may be in ours.
    const child = this.#child = spawn(this.#program, [String(process.pid)], { detached: true, cwd: '/', env: {}, stdio: ['pipe', 'ignore', 'ignore'] })
    child.on('error', (error: NodeJS.ErrnoException) => this.#ended(child, log, error.code)).on('exit', (code, signal) => this.#ended(child, log, signal ?? code))
    child.unref()
    const input = child.stdin as Socket | undefined
    // EPIPE: it has ended, and 'exit' says so.
    input?.on('error', () => {}).unref()
    this.#tell(this.#held.map(connection => `add ${connection}\n`).join(''))
  }

  #ended(child: ChildProcess, log: Logger, reason: unknown): void {
    if (this.#child !== child) return
    this.#child = null
    const started = child.pid !== undefined
    this.#failures = started ? this.#failures + 1 : MAX_FAILURES
    const again = this.#failures < MAX_FAILURES
    log.warn(started ? `the guard process has ended${again ? ' and is started again' : ''}` : 'the guard process cannot be started',
      { program: this.#program, reason, ...again ? {} : { consequence: 'should this process be killed, readers may hang until daybook unmount --force' } })
    if (again) this.#start(log)
  }

  #tell(orders: string): void { this.#child?.stdin?.write(orders) }
}

/** Of this process. */
export const guard = new Guard()

/** For doctor: 'no' where connections are out of reach, that is where fusectl is not mounted and we are not root. */
export function guardCanAbort(): 'yes' | 'no' | 'missing' {
  const { status } = spawnSync(PROGRAM, ['--check'], { stdio: 'ignore', env: {} })
  return status === 0 ? 'yes' : status === 1 ? 'no' : 'missing'
}
