import { spawn } from 'node:child_process'
import { DaybookError } from '../errors.js'

/** Contents of one file of a snapshot that come out of a descriptor. */
export interface StreamSource {
  /** where it is in the snapshot: /name, or deeper */
  readonly path: string
  /** to be read to its end; belongs to who takes it */
  open(): Promise<number> | number
  /** After the end: was it whole? @throws DaybookError if it was not: then no snapshot is made */
  finished(): Promise<void>
}

/** Standard input of this process. */
export function standardInput(path: string): StreamSource {
  return { path, open: () => 0, finished: async () => {} }
}

/**
 * What a command writes to its standard output. A command that fails has not said all it had to say.
 * @param makePipe a pipe: what is read from, and what is written to
 */
export function commandOutput(path: string, command: readonly string[], makePipe: () => { read: number, write: number }, closeFd: (fd: number) => void): StreamSource {
  let ended: Promise<void> | null = null
  return {
    path,
    async open() {
      const pipe = makePipe()
      const child = spawn(command[0], command.slice(1), { stdio: ['ignore', pipe.write, 'inherit'] })
      ended = new Promise((resolve, reject) => {
        child.once('error', cause => reject(new DaybookError('ERR_USAGE', `${command[0]} cannot be run: ${cause.message}`, undefined, { cause })))
        child.once('exit', (code, signal) => {
          if (code === 0) resolve()
          else reject(new DaybookError('ERR_UNREACHABLE', `${command[0]} failed: ${signal ?? `exit code ${code}`}`, 'no snapshot was made of what it had written until then'))
        })
      })
      ended.catch(() => {}) // told by finished()
      // Ours must go, or the pipe never ends.
      closeFd(pipe.write)
      return pipe.read
    },
    finished: () => ended ?? Promise.resolve(),
  }
}
