import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Layout } from './layout.js'
import { PackFile } from './pack-file.js'

export interface PackFilesOptions {
  layout: Layout
  /** makes the folders above those of packs */
  prepare: () => void
  /** something is wrong with the directory or the disk: other than that there is no such file */
  onError: (error: NodeJS.ErrnoException) => void
  /** packs kept open; each takes two descriptors */
  max?: number
  /** closed when not used for that long: the space of an evicted pack comes back only then */
  idleMs?: number
  /** after that, what other processes did is looked for */
  trustMs?: number
  now?: () => number
}

interface Entry {
  /** null: there is none */
  file: PackFile | null
  checkedMs: number
  usedMs: number
  /** the look under way */
  looking: Promise<void> | null
}

/** Packs on disk, kept open between uses, and the knowledge that others are not there. */
export class PackFiles {
  readonly #layout: Layout
  readonly #options: PackFilesOptions
  readonly #max: number
  readonly #idleMs: number
  readonly #trustMs: number
  readonly #now: () => number
  readonly #entries = new Map<string, Entry>()
  readonly #creating = new Map<string, Promise<PackFile>>()
  #timer: NodeJS.Timeout | null = null
  #closed = false

  constructor(options: PackFilesOptions) {
    this.#layout = options.layout
    this.#options = options
    this.#max = options.max ?? 128
    this.#idleMs = options.idleMs ?? 10_000
    this.#trustMs = options.trustMs ?? 1000
    this.#now = options.now ?? (() => performance.now())
  }

  /** Learn what is here of these packs, also what other processes have added. null: that was done a moment ago. Never rejects. */
  look(names: Iterable<string>): Promise<void> | null {
    const now = this.#now()
    let looks: Promise<void>[] | null = null
    for (const name of names) {
      const entry = this.#entries.get(name)
      if (entry !== undefined && entry.looking === null && now - entry.checkedMs <= this.#trustMs) continue
      ;(looks ??= []).push(this.#look(name))
    }
    return looks === null ? null : Promise.all(looks).then(() => {})
  }

  /** As far as is known; null: not here. */
  get(name: string): PackFile | null {
    const entry = this.#entries.get(name)
    if (entry === undefined || entry.file === null) return null
    entry.usedMs = this.#now()
    return entry.file
  }

  /** For writing. @throws errors of node:fs */
  async create(name: string, kind: 'data' | 'trees'): Promise<PackFile> {
    await this.look([name])
    const known = this.get(name)
    if (known !== null) {
      if (known.writable) return known
      throw Object.assign(new Error(`${known.path} cannot be written to`), { code: 'EROFS' })
    }
    const creating = this.#creating.get(name)
    if (creating !== undefined) return creating
    const created = this.#create(name, kind).finally(() => this.#creating.delete(name))
    this.#creating.set(name, created)
    return created
  }

  /** It cannot be read: another look may find another one. */
  forget(name: string): void { this.#drop(name) }

  async close(): Promise<void> {
    this.#closed = true
    if (this.#timer) clearInterval(this.#timer)
    const files = [...this.#entries.values()].map(({ file }) => file)
    this.#entries.clear()
    await Promise.all(files.map(file => file?.close()))
  }

  async #create(name: string, kind: 'data' | 'trees'): Promise<PackFile> {
    const path = this.#layout.pack(kind, name)
    const file = await PackFile.create(path).catch(async error => {
      if (error.code !== 'ENOENT') throw error
      this.#options.prepare()
      await mkdir(dirname(path), { mode: 0o700 }).catch(error => { if (error.code !== 'EEXIST') throw error })
      return PackFile.create(path)
    })
    this.#put(name, file)
    return file
  }

  #look(name: string): Promise<void> {
    const entry = this.#entries.get(name)
    if (entry?.looking) return entry.looking
    const looking = this.#lookAt(name, entry?.file ?? null)
    if (entry !== undefined) {
      entry.looking = looking
      return looking
    }
    this.#entries.set(name, { file: null, checkedMs: -Infinity, usedMs: this.#now(), looking })
    this.#shrink()
    return looking
  }

  async #lookAt(name: string, file: PackFile | null): Promise<void> {
    const put = (file: PackFile | null) => {
      // It was created meanwhile.
      const entry = this.#entries.get(name)
      if (entry !== undefined && entry.looking === null) return void (file !== entry.file && file?.close())
      this.#put(name, file)
    }
    try {
      if (file !== null) {
        file.hold()
        const alive = await file.refresh().finally(() => file.release())
        if (alive) return put(file)
      }
      put(await PackFile.open(this.#layout.pack('data', name)) ?? await PackFile.open(this.#layout.pack('trees', name)))
    } catch (error) {
      put(null)
      this.#options.onError(error as NodeJS.ErrnoException)
    }
  }

  #put(name: string, file: PackFile | null): void {
    const before = this.#entries.get(name)?.file
    if (before && before !== file) void before.close()
    if (this.#closed) return void file?.close()
    this.#entries.delete(name)
    this.#entries.set(name, { file, checkedMs: this.#now(), usedMs: this.#now(), looking: null })
    this.#shrink()
    this.#timer ??= setInterval(() => this.#closeIdle(), this.#idleMs).unref()
  }

  #shrink(): void {
    for (const [name, { looking }] of this.#entries) {
      if (this.#entries.size <= this.#max) break
      if (looking === null) this.#drop(name)
    }
  }

  #drop(name: string): void {
    const entry = this.#entries.get(name)
    this.#entries.delete(name)
    void entry?.file?.close()
  }

  #closeIdle(): void {
    const now = this.#now()
    for (const [name, { usedMs, looking }] of this.#entries) if (looking === null && now - usedMs >= this.#idleMs) this.#drop(name)
    if (this.#entries.size > 0 || !this.#timer) return
    clearInterval(this.#timer)
    this.#timer = null
  }
}
