/** Nothing is said of what is over sooner. */
const PATIENCE_MS = 2000
const REDRAW_MS = 200

export interface ProgressStream {
  readonly isTTY?: boolean
  write(text: string): unknown
}

/** A line on a terminal about what takes long, gone when it is done. Silent elsewhere. */
export class Progress {
  readonly #stream: ProgressStream
  readonly #enabled: boolean
  #timer: NodeJS.Timeout | null = null
  #text = ''
  #shown = false

  constructor({ stream = process.stderr as ProgressStream, quiet = false } = {}) {
    this.#stream = stream
    this.#enabled = !quiet && stream.isTTY === true
  }

  /** @param done null: there is nothing to count @param total null: unknown */
  readonly update = (stage: string, done: number | null = null, total: number | null = null): void => {
    if (!this.#enabled) return
    this.#text = `${stage} ...${done === null ? '' : ` ${done}`}${total === null ? '' : ` of ${total}`}`
    this.#timer ??= setTimeout(this.#draw, PATIENCE_MS).unref()
  }

  readonly #draw = (): void => {
    this.#stream.write(`\r\x1b[K${this.#text}`)
    this.#shown = true
    this.#timer = setTimeout(this.#draw, REDRAW_MS).unref()
  }

  /** Take the line away; a later update starts afresh. */
  done(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#shown) this.#stream.write('\r\x1b[K')
    this.#shown = false
  }
}
