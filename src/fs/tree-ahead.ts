import { LRUCache } from 'lru-cache'
import { TreeRows } from '../format/tree-rows.js'
import { idKey } from '../util/id-key.js'
import { NO_TREE, VIRTUAL, type Directories } from './directories.js'
import type { BlobId, TreeSource } from './sources.js'
import type { TreeHandles } from './tree-handles.js'

/** Trees in tree order from the walker on that are had, or on their way. Bounded by the memory of the source, too: these are 6 MB as a rule. */
const AHEAD = 3072
const MAX_AHEAD_BYTES = 5 << 20
/**
 * Once so many have been passed, the next ones are asked for, level by level. The trees of a snapshot lie in as many packs as there were backups
 * that changed some, so asking costs about one read for each of them, however little is asked for: by the hundred, `find` over the last of 30 days read 2 trees at a time.
 */
const BATCH = 1024
/** When memory was short, the rest is asked for once so many more have been passed. */
const RETRY = 64
/** A walker may pass its siblings in another order than ours (a locale's): so many trees behind it are not taken for passed. */
const SLACK = 64
/** ms within which a directory and something below it are listed by somebody who walks */
const STEP_MS = 5000
/** Walkers at once that are told apart. */
const MAX_WALKS = 4

/** A directory that is to come; its rows may be on their way. */
interface Tree {
  readonly key: string
  /** where its subdirectories are, until they have been put into the order */
  view: TreeRows | null
  bytes: number
  arrived: boolean
  listed: boolean
}
/** Subdirectories, from the `next`th on, that were not asked for yet. */
interface Rest { readonly view: TreeRows, next: number }

function isRefusal(rows: Buffer | Error): boolean { return (rows as { code?: string }).code === 'ERR_ABORTED' }

function isTree(item: Tree | Rest): item is Tree { return 'key' in item }

/**
 * Trees before they are asked for: who lists a directory and then one below it (`find`, `cp -r`, `tar`, `rsync`, `ls -R`, `du`) will list the others,
 * in tree order. One at a time each would cost a read and a decoding that nobody shares; here the next hundreds come together, on all cores.
 * Of no use once all trees are in the local index.
 */
export class TreeAhead {
  readonly #trees: TreeSource
  readonly #handles: TreeHandles
  readonly #directories: Pick<Directories, 'parent' | 'exists' | 'tree' | 'position'>
  readonly #now: () => number
  /** instances listed lately: when, performance.now() */
  readonly #listed = new LRUCache<number, number>({ max: 512 })
  /** the one heard of last comes last */
  #walks: Walk[] = []

  constructor(sources: { trees: TreeSource, handles: TreeHandles, directories: Pick<Directories, 'parent' | 'exists' | 'tree' | 'position'>, now?: () => number }) {
    this.#now = sources.now ?? (() => performance.now())
    this.#trees = sources.trees
    this.#handles = sources.handles
    this.#directories = sources.directories
  }

  /** A listing of this directory begins. */
  listing(instance: number, handle: number, rows: Buffer): void {
    if (this.#trees.complete) {
      if (this.#walks.length > 0) this.#walks = []
      return
    }
    const now = this.#now()
    const key = idKey(this.#handles.id(handle))
    let walk = this.#walks.find(walk => walk.has(key))
    if (walk !== undefined) walk.passed(key)
    else if (this.#wasListed(this.#directories.parent(instance), now)) walk = new Walk(this.#trees, this.#order(instance, rows, now))
    this.#listed.set(instance, now)
    this.#stillWalked(this.#directories.parent(instance), now)
    if (walk === undefined) return
    if (this.#walks.at(-1) !== walk) this.#walks = [...this.#walks.filter(other => other !== walk).slice(1 - MAX_WALKS), walk]
    walk.pump()
  }

  /** Who has walked below a directory for minutes is still on the way through it: should the walk be lost, it is taken up there again. */
  #stillWalked(instance: number, now: number): void {
    for (let above = instance; this.#wasListed(above, now); above = this.#directories.parent(above)) this.#listed.set(above, now)
  }

  #wasListed(instance: number, now: number): boolean { return now - (this.#listed.get(instance) ?? -Infinity) < STEP_MS }

  /** What comes behind a directory: its own subdirectories, then what is behind it in the directories above that were listed, too. */
  #order(instance: number, rows: Buffer, now: number): Rest[] {
    const order: Rest[] = [{ view: new TreeRows(rows), next: 0 }]
    for (;;) {
      const parent = this.#directories.parent(instance)
      const tree = this.#directories.exists(parent) ? this.#directories.tree(parent) : VIRTUAL
      if (tree === VIRTUAL || tree === NO_TREE || !this.#wasListed(parent, now)) return order
      const rows = this.#trees.peek(this.#handles.id(tree))
      if (rows === null) return order
      const view = new TreeRows(rows)
      order.push({ view, next: view.ordinal(this.#directories.position(instance)) + 1 })
      instance = parent
    }
  }
}

/** One walker, and what it will come by. */
class Walk {
  readonly #trees: TreeSource
  /** in tree order, from the walker on */
  #order: (Tree | Rest)[]
  /** the trees in `order` */
  readonly #ahead = new Map<string, Tree>()
  /** bytes of rows had and not passed yet */
  #bytes = 0
  /** trees in the order that were not asked for yet */
  #unsent: { readonly id: BlobId, readonly tree: Tree }[] = []
  #underWay = 0
  #passedSince = BATCH

  constructor(trees: TreeSource, order: Rest[]) {
    this.#trees = trees
    this.#order = order
  }

  has(key: string): boolean { return this.#ahead.has(key) }

  passed(key: string): void {
    const tree = this.#ahead.get(key)!
    if (tree.listed) return
    tree.listed = true
    this.#bytes -= tree.bytes
    this.#passedSince++
  }

  /** Ask for the next ones once enough have been passed. */
  pump(): void {
    if (this.#underWay > 0 || this.#passedSince < BATCH || this.#bytes > MAX_AHEAD_BYTES) return
    this.#extend()
    const sent = this.#unsent.filter(({ tree }) => !tree.listed)
    if (sent.length === 0) {
      this.#passedSince = 0
      return
    }
    this.#unsent = []
    this.#underWay = sent.length
    this.#trees.fetch(sent.map(({ id }) => id), (index, rows) => {
      if (isRefusal(rows)) this.#unsent.push(sent[index])
      else this.#arrived(sent[index].tree, rows)
      if (--this.#underWay > 0) return
      if (this.#unsent.length === 0) return this.pump()
      this.#passedSince = BATCH - RETRY
    })
  }

  /** Put the subdirectories of what has arrived into the order. */
  #extend(): void {
    const order: (Tree | Rest)[] = []
    for (const item of this.#remaining()) {
      if (!isTree(item)) this.#expand(item, order)
      else {
        if (!item.arrived || !item.listed) order.push(item)
        else this.#ahead.delete(item.key)
        if (item.view !== null) {
          const rest = { view: item.view, next: 0 }
          item.view = null
          this.#expand(rest, order)
        }
      }
    }
    this.#order = order
  }

  /** Without what the walker has left behind. */
  #remaining(): (Tree | Rest)[] {
    const last = this.#order.findLastIndex(item => isTree(item) && item.listed)
    return this.#order.filter((item, at) => {
      if (at >= last || (isTree(item) && at > last - SLACK)) return true
      if (isTree(item)) {
        this.#ahead.delete(item.key)
        if (!item.listed) this.#bytes -= item.bytes
      }
      return false
    })
  }

  /** Put the first of these subdirectories into the order, as many as may be ahead. */
  #expand(rest: Rest, order: (Tree | Rest)[]): void {
    const { view } = rest
    const positions = view.directoryPositions
    while (rest.next < positions.length && order.length < AHEAD) {
      const id = view.subtree(positions[rest.next++])
      if (id === null) continue
      const key = idKey(id)
      if (this.#ahead.has(key)) continue
      const tree: Tree = { key, view: null, bytes: 0, arrived: false, listed: false }
      this.#ahead.set(key, tree)
      order.push(tree)
      this.#unsent.push({ id, tree })
    }
    if (rest.next < positions.length) order.push(rest)
  }

  #arrived(tree: Tree, rows: Buffer | Error): void {
    if (this.#ahead.get(tree.key) !== tree) return
    tree.arrived = true
    // It will be asked for, and the error answered then.
    if (rows instanceof Error) return
    const view = new TreeRows(rows)
    if (view.directoryPositions.length > 0) tree.view = view
    if (tree.listed) return
    tree.bytes = rows.length
    this.#bytes += rows.length
  }
}
