import { createHash } from 'node:crypto'
import { encodeRows, type RowEntry } from '../format/tree-rows.js'
import type { Directories } from './directories.js'
import { VIRTUAL } from './directories.js'
import { directoryNode, ROOT_INSTANCE } from './node-id.js'
import type { LayoutDirectory, LayoutEntry } from './layout.js'
import type { SnapshotEntry } from './sources.js'

/** For so long a name that has left the layout can still be looked up: what was read from `latest` a moment ago must not dangle. */
const GRACE_MS = 10_000

/** Where a snapshot's root is: its tree's handle, and the attributes of the directory if it is one inside of the snapshot (a subtree). */
export interface SnapshotRoot { readonly tree: number, readonly attributes: RowEntry | null }

interface Child {
  readonly kind: 'directory' | 'snapshot' | 'link'
  /** what makes it the same child at the next refresh */
  readonly key: string
  readonly node: number
  /** 0 for links */
  readonly instance: number
  readonly row: RowEntry
}

/** A directory of our own making, as readdirplus needs it. */
export interface VirtualDirectory {
  readonly instance: number
  /** names from the root, joined by '/'; '' is the root */
  readonly path: string
  children: Map<string, Child>
  rows: Buffer
  nodes: Float64Array
  /** ms since 1970; differs whenever the list does, which makes the kernel drop its cached listing */
  mtimeMs: number
  readonly departed: Map<string, { child: Child, until: number }>
}

/** A change the kernel should hear of: the name in that directory means something else now. */
export interface Change { readonly parent: number, readonly name: string }

/**
 * The directories above the snapshots: made from a layout, changed when snapshots come and go. A name whose meaning has not changed keeps its node id;
 * `latest` has one per target, since the kernel caches what a symlink says for as long as the node lives.
 */
export class VirtualTree {
  readonly #directories: Directories
  readonly #owner: { uid: number, gid: number }
  readonly #byInstance = new Map<number, VirtualDirectory>()
  readonly #links = new Map<number, Child>()
  /** directories that have left the layout, by instance: somebody may be inside */
  readonly #left = new Map<number, Child>()
  /** below 2^24 and not 1, the root */
  #nextLink = 16

  constructor(directories: Directories, owner: { uid: number, gid: number }) {
    this.#directories = directories
    this.#owner = owner
    this.#byInstance.set(ROOT_INSTANCE, this.#directory(ROOT_INSTANCE, '', Date.now()))
  }

  get root(): VirtualDirectory { return this.#byInstance.get(ROOT_INSTANCE)! }
  directory(instance: number): VirtualDirectory | undefined { return this.#byInstance.get(instance) }
  link(node: number): RowEntry | undefined { return this.#links.get(node)?.row }

  /** Row of a directory that has left the layout and may still be held. */
  left(instance: number): RowEntry | undefined { return this.#left.get(instance)?.row }

  /** A child by its name (latin1, as bytes), also one that left moments ago. */
  find(directory: VirtualDirectory, name: Buffer): { node: number, row: RowEntry } | null {
    const key = name.toString('utf8')
    const child = directory.children.get(key) ?? departedChild(directory, key)
    return child !== undefined && child.row.name.equals(name) ? child : null
  }

  /** Row of the directory itself. */
  rowOf(directory: VirtualDirectory): RowEntry {
    return this.#row('directory', 0o40555, directory.mtimeMs, 0, this.#directories.ino(directory.instance))
  }

  /** @param rootOf where each snapshot's root is */
  apply(layout: LayoutDirectory, rootOf: (snapshot: SnapshotEntry) => SnapshotRoot): Change[] {
    const changes: Change[] = []
    this.#applyDirectory(this.root, layout, rootOf, changes)
    return changes
  }

  /** @returns whether anything in it or below has changed */
  #applyDirectory(directory: VirtualDirectory, layout: LayoutDirectory, rootOf: (snapshot: SnapshotEntry) => SnapshotRoot, changes: Change[]): boolean {
    const before = directory.children
    const children = new Map<string, Child>()
    let changed = false
    let changedBelow = false
    for (const [name, entry] of layout) {
      const old = before.get(name)
      const child = old !== undefined && old.key === keyOf(entry) ? old : this.#makeChild(directory, name, entry, rootOf)
      if (child !== old) {
        changed = true
        changes.push({ parent: directory.instance, name })
        if (old !== undefined) this.#depart(directory, name, old, false)
      }
      children.set(name, child)
      if (entry.kind === 'directory' && this.#applyDirectory(this.#byInstance.get(child.instance)!, entry.entries, rootOf, changes)) changedBelow = true
    }
    for (const [name, old] of before) {
      if (layout.has(name)) continue
      changed = true
      changes.push({ parent: directory.instance, name })
      this.#depart(directory, name, old, true)
    }
    if (!changed && before.size > 0) {
      // the rows carry the times of the directories below
      if (changedBelow) this.#encode(directory)
      return changedBelow
    }
    directory.children = children
    const times = [...children.values()].map(child => Number(child.row.mtime[0]) * 1000)
    const newest = times.length > 0 ? Math.max(...times) : Date.now()
    directory.mtimeMs = before.size === 0 && newest < Date.now() ? newest : Math.max(Date.now(), directory.mtimeMs + 1)
    this.#encode(directory)
    return true
  }

  #makeChild(parent: VirtualDirectory, name: string, entry: LayoutEntry, rootOf: (snapshot: SnapshotEntry) => SnapshotRoot): Child {
    const path = parent.path === '' ? name : `${parent.path}/${name}`
    const key = keyOf(entry)
    if (entry.kind === 'link') {
      const target = Buffer.from(entry.target)
      const row = { ...this.#row(name, 0o120777, Date.now(), 0, inoOf('link', path, entry.target)), size: target.length, target }
      const child: Child = { kind: 'link', key, node: this.#nextLink++, instance: 0, row }
      this.#links.set(child.node, child)
      return child
    }
    if (entry.kind === 'directory') {
      const instance = this.#pin(parent.instance, VIRTUAL, inoOf('directory', path))
      const directory = this.#directory(instance, path, Date.now())
      this.#byInstance.set(instance, directory)
      return { kind: 'directory', key, node: directoryNode(instance), instance, row: this.#row(name, 0o40555, directory.mtimeMs, 0, this.#directories.ino(instance)) }
    }
    const { snapshot } = entry
    const { tree, attributes } = rootOf(snapshot)
    const ino = inoOf('snapshot', parent.path, snapshot.id)
    const instance = this.#pin(parent.instance, tree, ino)
    const row = attributes !== null ? { ...attributes, name: Buffer.from(name), ino } : this.#row(name, 0o40555, snapshot.timeMs, snapshot.timeNs, ino)
    return { kind: 'snapshot', key, node: directoryNode(instance), instance, row }
  }

  #pin(parent: number, tree: number, ino: bigint): number {
    const instance = this.#directories.pin(parent, tree, ino)
    this.#left.delete(instance)
    return instance
  }

  #depart(directory: VirtualDirectory, name: string, child: Child, nameGone: boolean): void {
    const until = Date.now() + GRACE_MS
    if (nameGone && child.kind !== 'link') directory.departed.set(name, { child, until })
    if (child.kind !== 'link') this.#left.set(child.instance, child)
    setTimeout(() => {
      if (directory.departed.get(name)?.child === child) directory.departed.delete(name)
      if (child.kind === 'link') this.#links.delete(child.node)
      else this.#releaseBelow(child)
      for (const [instance, { row }] of this.#left) if (this.#directories.ino(instance) !== row.ino) this.#left.delete(instance)
    }, GRACE_MS + 1000).unref()
  }

  #releaseBelow(child: Child): void {
    const directory = this.#byInstance.get(child.instance)
    if (directory !== undefined) {
      for (const below of directory.children.values()) {
        if (below.kind === 'link') continue
        this.#left.set(below.instance, below)
        this.#releaseBelow(below)
      }
      this.#byInstance.delete(child.instance)
    }
    this.#directories.release(child.instance)
  }

  #encode(directory: VirtualDirectory): void {
    const children = [...directory.children.values()].sort((a, b) => Buffer.compare(a.row.name, b.row.name))
    directory.rows = encodeRows(children.map(child => child.kind === 'directory' ? { ...child.row, mtime: seconds(this.#byInstance.get(child.instance)!.mtimeMs) } : child.row))
    directory.nodes = Float64Array.from(children, child => child.node)
  }

  #directory(instance: number, path: string, mtimeMs: number): VirtualDirectory {
    return { instance, path, children: new Map(), rows: encodeRows([]), nodes: new Float64Array(0), mtimeMs, departed: new Map() }
  }

  #row(name: string, mode: number, timeMs: number, timeNs: number, ino: bigint): RowEntry {
    const time = seconds(timeMs, timeNs)
    return { name: Buffer.from(name), mode, size: mode >= 0o100000 ? 0 : 4096, mtime: time, atime: time, ctime: time, ...this.#owner, nlink: 1, ino }
  }
}

export function rootIno(): bigint { return inoOf('directory', '') }

/** The same after every remount: from what the entry is, not from when it was seen. */
function inoOf(...parts: string[]): bigint {
  return createHash('sha256').update(parts.join('\0')).digest().readBigUInt64LE(0) | 2n
}

function departedChild(directory: VirtualDirectory, name: string): Child | undefined {
  const departed = directory.departed.get(name)
  return departed !== undefined && departed.until > Date.now() ? departed.child : undefined
}

function keyOf(entry: LayoutEntry): string {
  return entry.kind === 'snapshot' ? `snapshot ${entry.snapshot.id}` : entry.kind === 'link' ? `link ${entry.target}` : 'directory'
}

function seconds(timeMs: number, timeNs = 0): [bigint, number] {
  const whole = Math.floor(timeMs / 1000)
  return [BigInt(whole), Math.floor(timeMs - whole * 1000) * 1_000_000 + timeNs]
}
