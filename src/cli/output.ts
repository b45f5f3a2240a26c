/** Standard output in pieces of 64 KiB: one system call for a thousand lines. Pipes, files and terminals are written synchronously by Node on Linux. */
export class Output {
  #parts: Buffer[] = []
  #length = 0

  write(data: string | Uint8Array): void {
    const bytes = Buffer.from(data as string)
    this.#parts.push(bytes)
    this.#length += bytes.length
    if (this.#length >= 1 << 16) this.flush()
  }

  /** To be called before the process ends. */
  flush(): void {
    if (this.#length > 0) process.stdout.write(Buffer.concat(this.#parts, this.#length))
    this.#parts = []
    this.#length = 0
  }
}
