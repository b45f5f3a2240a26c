import { rowEntry, TreeRows, type RowEntry } from '../format/tree-rows.js'
import type { SnapshotEntry, TreeSource } from '../fs/sources.js'
import { forEachLimited } from '../util/concurrency.js'
import type { Logger } from '../util/log.js'

const ROOTS_AT_ONCE = 8

/** Where the tree of a day begins. tree null: it cannot be read now; the day is shown and answers EIO. */
export interface Root { readonly tree: Uint8Array | null, readonly attributes: RowEntry | null }

/**
 * The roots of snapshots: the snapshot's own, or the directory at `subtree` within it. A snapshot without that directory has none and is not shown:
 * the account did not exist yet. What was found is remembered, since snapshots never change.
 */
export class SnapshotRoots {
  readonly #trees: TreeSource
  readonly #path: Buffer[] | null
  readonly #log: Logger
  readonly #found = new Map<string, Root | null>()

  constructor(trees: TreeSource, subtree: string | null, log: Logger) {
    this.#trees = trees
    this.#path = subtree === null || subtree === '/' ? null : subtree.split('/').filter(name => name !== '').map(name => Buffer.from(name))
    this.#log = log
  }

  /** Find what is not known yet. @returns those snapshots that have a root */
  async prepare<T extends SnapshotEntry>(snapshots: readonly T[]): Promise<T[]> {
    const path = this.#path
    if (path === null) return [...snapshots]
    await forEachLimited(snapshots.filter(({ id }) => this.#found.get(id)?.tree == null), ROOTS_AT_ONCE, async snapshot => {
      const root = await this.#descend(snapshot.tree, path).catch((error: Error) => {
        this.#log.warn(`snapshot ${snapshot.id.slice(0, 8)}: cannot look for the subtree: ${error.message}`)
        return { tree: null, attributes: null }
      })
      this.#found.set(snapshot.id, root)
    })
    const known = new Set(snapshots.map(({ id }) => id))
    for (const id of this.#found.keys()) if (!known.has(id)) this.#found.delete(id)
    return snapshots.filter(({ id }) => this.#found.get(id) != null)
  }

  of(snapshot: SnapshotEntry): Root {
    return this.#found.get(snapshot.id) ?? { tree: this.#path === null ? snapshot.tree : null, attributes: null }
  }

  /** @returns null if there is no such directory; a symlink on the way is not followed: it would lead out of the subtree */
  async #descend(tree: Uint8Array, path: readonly Buffer[]): Promise<Root | null> {
    let attributes: RowEntry | null = null
    for (const [depth, name] of path.entries()) {
      let rows = new TreeRows(await this.#rows(tree))
      if (depth === 0 && rows.replacement !== null) rows = new TreeRows(await this.#rows(rows.replacement))
      const position = rows.find(name)
      if (position < 0 || !rows.isDirectory(position)) return null
      const subtree = rows.subtree(position)
      attributes = rowEntry(rows, position)
      if (subtree === null) return { tree: null, attributes }
      tree = Buffer.from(subtree)
    }
    return { tree, attributes }
  }

  async #rows(tree: Uint8Array): Promise<Buffer> { return this.#trees.peek(tree) ?? this.#trees.load(tree) }
}
