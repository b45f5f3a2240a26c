import { spawn, type ChildProcess } from 'node:child_process'
import { Duplex } from 'node:stream'

/** Standard output and input of a command line, as a connection. It ends with the command, and the command with it. */
export class CommandStream extends Duplex {
  readonly #child: ChildProcess

  constructor(command: string) {
    super()
    this.#child = spawn('/bin/sh', ['-c', `exec ${command}`], { stdio: ['pipe', 'pipe', 'inherit'] })
    const { stdin, stdout } = this.#child
    stdout!.on('data', chunk => { if (!this.push(chunk)) stdout!.pause() }).on('end', () => this.push(null))
    stdin!.on('error', () => {}) // its output ends as well, and that is noticed
    this.#child.on('error', error => this.destroy(error)).on('close', () => this.destroy())
  }

  override _read(): void { this.#child.stdout!.resume() }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    // An error is no news: see above.
    this.#child.stdin!.write(chunk, () => done())
  }

  override _final(done: () => void): void { this.#child.stdin!.end(done) }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#child.kill()
    done(error)
  }
}
