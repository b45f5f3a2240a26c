import { constants } from 'node:fs'
import { lstat, open, readdir, readFile, readlink, rename, rm, statfs, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { forEachLimited } from '../../util/concurrency.js'
import { CLASSES, MAP, TEMPORARY, type Class, type Layout } from './layout.js'

export interface QuotaOptions {
  layout: Layout
  /** bytes on disk; null: a share of the file system */
  maxBytes: number | null
  /** a file that is open keeps its room until it is closed */
  onEvicted?: (name: string) => void
  now?: () => number
}

const DEFAULT_SHARE = 0.05
const DEFAULT_MOST = 20e9
/** After eviction: room for some time. */
const FILL_TO = 0.9
/** What a process has written is told to the others in such steps: by at most that much for each of them the quota may be exceeded. */
const STEP = 1 << 20
/** So many entries in the file of usage, and they are added up. */
const MAX_RECORDS = 4096
const RECORD = 8
const STATS_AT_ONCE = 8
/** Whoever holds the lock for longer is not at work any more; a number of a process may have been given to another one. */
const LOCK_MS = 10 * 60_000
/** Of files nobody has finished. */
const LEFTOVER_MS = 3600_000
/** The disk was full below the quota: others need the room. */
const GIVE_BACK = 0.8

interface Stored { readonly name: string, readonly paths: string[], bytes: number, usedMs: number }

/**
 * One quota for whatever lies in the directory, whoever put it there. How much that is stands in a file of f64le numbers, to be added up: each process appends
 * what it has written, and whoever evicts looks at the directory itself and begins anew with what is there.
 */
export class Quota {
  readonly #layout: Layout
  readonly #given: number | null
  readonly #onEvicted: (name: string) => void
  readonly #now: () => number
  #max: number | null = null
  #untold = 0
  #work: Promise<void> = Promise.resolve()
  #over = false

  constructor({ layout, maxBytes, onEvicted = () => {}, now = Date.now }: QuotaOptions) {
    this.#layout = layout
    this.#given = maxBytes
    this.#onEvicted = onEvicted
    this.#now = now
  }

  /** Nothing is to be written until there is room. */
  get over(): boolean { return this.#over }

  /** as `max`, once it is known; before that 0 */
  get known(): number { return this.#given ?? this.#max ?? 0 }

  /** @throws errors of node:fs */
  async max(): Promise<number> {
    if (this.#given !== null) return this.#given
    if (this.#max !== null) return this.#max
    const { blocks, bsize } = await statfs(this.#layout.root)
    return this.#max = Math.min(DEFAULT_MOST, Math.floor(blocks * bsize * DEFAULT_SHARE))
  }

  /** That many bytes were written. Resolves when there is room for more, or cannot be made. Never rejects. */
  grown(bytes: number): Promise<void> {
    this.#untold += bytes
    if (this.#untold < Math.min(STEP, (this.#given ?? Infinity) / 32) && !this.#over) return this.#work
    return this.settle()
  }

  /** Tell what was written, and evict if it is too much. Never rejects. */
  settle(): Promise<void> {
    return this.#work = this.#work.then(() => this.#settle()).catch(() => {})
  }

  /** Bytes in the directory, as the processes say. null: nobody has counted yet */
  async usage(): Promise<number | null> {
    const text = await readFile(this.#layout.usage).catch(() => null)
    if (text === null || text.length < RECORD || text.length > MAX_RECORDS * RECORD) return null
    let sum = 0
    for (let at = 0; at + RECORD <= text.length; at += RECORD) sum += text.readDoubleLE(at)
    return sum >= 0 && Number.isFinite(sum) ? sum : null
  }

  /** There is no room on the disk, whatever the quota says. @returns was anything evicted? Never rejects. */
  async diskFull(): Promise<boolean> {
    let freed = false
    await (this.#work = this.#work.then(async () => {
      freed = await this.#evict(used => used * GIVE_BACK)
    }).catch(() => {}))
    return freed
  }

  async #settle(): Promise<void> {
    const untold = this.#untold
    this.#untold = 0
    // Where nobody has counted yet, what was written is counted with the rest.
    if (untold > 0) await append(this.#layout.usage, f64(untold))
    const max = await this.max()
    const usage = await this.usage()
    if (usage !== null && usage <= max) {
      this.#over = false
      return
    }
    this.#over = usage !== null
    await this.#evict(used => used > max ? max * FILL_TO : used)
    const after = await this.usage()
    this.#over = after !== null && after > max
  }

  /** Down to what `target` says of what is there. @returns false if somebody else is at it, or there was nothing to remove */
  async #evict(target: (used: number) => number): Promise<boolean> {
    if (!await this.#lock()) return false
    try {
      const classes = await Promise.all(CLASSES.map(kind => this.#stored(kind)))
      let used = classes.flat().reduce((sum, { bytes }) => sum + bytes, 0)
      const wanted = target(used)
      let freed = false
      for (const stored of classes) {
        stored.sort((a, b) => a.usedMs - b.usedMs)
        for (const { name, paths, bytes } of stored) {
          if (used <= wanted) break
          for (const path of paths) await unlink(path).catch(() => {})
          this.#onEvicted(name)
          used -= bytes
          freed = true
        }
      }
      const fresh = `${this.#layout.usage}${TEMPORARY}${process.pid}`
      await writeFile(fresh, f64(used), { mode: 0o600 })
      await rename(fresh, this.#layout.usage)
      return freed
    } finally {
      await unlink(this.#layout.lock).catch(() => {})
    }
  }

  /** A symbolic link with our number for its target: made in one step, and also where no block is free. */
  async #lock(): Promise<boolean> {
    for (const attempt of [1, 2]) {
      try {
        await symlink(String(process.pid), this.#layout.lock)
        return true
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
        if (attempt === 2 || !await this.#lockIsStale()) return false
        await rm(this.#layout.lock, { force: true })
      }
    }
    return false
  }

  async #lockIsStale(): Promise<boolean> {
    const [owner, stat] = await Promise.all([readlink(this.#layout.lock).catch(() => ''), lstat(this.#layout.lock).catch(() => null)])
    if (stat === null || this.#now() - stat.mtimeMs > LOCK_MS) return true
    const pid = Number(owner)
    if (!(pid > 0)) return true
    try { process.kill(pid, 0); return false } catch (error) { return (error as NodeJS.ErrnoException).code === 'ESRCH' }
  }

  async #stored(kind: Class): Promise<Stored[]> {
    const folder = this.#layout.folder(kind)
    const stored = new Map<string, Stored>()
    for (const prefix of await readdir(folder).catch(() => [])) {
      const names = await readdir(join(folder, prefix)).catch(() => [])
      await forEachLimited(names, STATS_AT_ONCE, async name => {
        const path = join(folder, prefix, name)
        const stat = await lstat(path).catch(() => null)
        if (stat === null || stat.isDirectory()) return
        if (name.includes(TEMPORARY)) {
          if (this.#now() - stat.mtimeMs > LEFTOVER_MS) await unlink(path).catch(() => {})
          return
        }
        const isMap = name.endsWith(MAP)
        const key = isMap ? name.slice(0, -MAP.length) : name
        let entry = stored.get(key)
        if (entry === undefined) stored.set(key, entry = { name: key, paths: [], bytes: 0, usedMs: 0 })
        // The map goes first: bytes that no map tells of are not believed, the other way round a new file would inherit an old map.
        if (isMap) entry.paths.unshift(path)
        else {
          entry.paths.push(path)
          entry.usedMs = stat.mtimeMs
        }
        entry.bytes += stat.blocks * 512
      })
    }
    return [...stored.values()]
  }
}

async function append(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW).catch(error => {
    if (error.code !== 'ENOENT') throw error
    return null
  })
  await file?.write(bytes).finally(() => file.close())
}

function f64(value: number): Buffer {
  const bytes = Buffer.alloc(RECORD)
  bytes.writeDoubleLE(value)
  return bytes
}
