import { ROOT_INSTANCE } from './node-id.js'

/** tree handle of a directory that has no readable tree: everything but its attributes is EIO */
export const NO_TREE = 0xffffffff
/** tree handle of a directory of our own making */
export const VIRTUAL = 0

/**
 * The directories the kernel knows, by instance number: one per (snapshot, path). Children of one directory are numbered in a block, in tree order,
 * so that C++ derives their node ids from the first. Forgotten blocks are used again. 36 bytes per directory.
 *
 * An instance is alive while the kernel holds references to it or a block of its own hangs below it; pinned ones (ours, snapshots) always.
 */
export class Directories {
  #capacity = 1024
  #parent = new Uint32Array(this.#capacity)
  #position = new Uint32Array(this.#capacity)
  #tree = new Uint32Array(this.#capacity)
  /** first child, 0 where the children have no numbers */
  #base = new Uint32Array(this.#capacity)
  #children = new Uint32Array(this.#capacity)
  #alive = new Uint32Array(this.#capacity)
  #references = new Uint32Array(this.#capacity)
  #ino = new BigUint64Array(this.#capacity)
  #pinned = new Set<number>()
  #next = ROOT_INSTANCE
  /** first instances of free blocks, by length */
  #free = new Map<number, number[]>()

  constructor(rootIno: bigint) { this.pin(0, VIRTUAL, rootIno) }

  /** A directory that stays until release(): the root, those of the layout, snapshots. */
  pin(parent: number, tree: number, ino: bigint): number {
    const instance = this.#take(1)
    this.#set(instance, parent, 0, tree, ino)
    this.#pinned.add(instance)
    return instance
  }

  /** A pinned directory has gone from the layout. What the kernel still holds of it goes on working. */
  release(instance: number): void {
    this.#pinned.delete(instance)
    // the directory above may leave earlier, and its number then means another one
    this.#parent[instance] = 0
    this.#settle(instance)
  }

  parent(instance: number): number { return this.#parent[instance] }
  position(instance: number): number { return this.#position[instance] }
  tree(instance: number): number { return this.#tree[instance] }
  ino(instance: number): bigint { return this.#ino[instance] }
  setTree(instance: number, tree: number): void { this.#tree[instance] = tree }
  exists(instance: number): boolean { return instance > 0 && instance < this.#next && this.#ino[instance] !== 0n }

  /** first instance of the block of children, 0 where they have no numbers */
  blockOf(instance: number): number { return this.#base[instance] }

  /**
   * First instance of the block of children of a directory. @param count how many it has
   * @param describe called for each child, first time only
   */
  block(instance: number, count: number, describe: (ordinal: number) => { position: number, tree: number, ino: bigint }): number {
    if (count === 0) return 0
    if (this.#base[instance] !== 0) return this.#base[instance]
    const base = this.#take(count)
    for (let ordinal = 0; ordinal < count; ordinal++) {
      const { position, tree, ino } = describe(ordinal)
      this.#set(base + ordinal, instance, position, tree, ino)
    }
    this.#base[instance] = base
    this.#children[instance] = count
    return base
  }

  /** The kernel was given this directory in `count` entries. */
  reference(instance: number, count = 1): void {
    if (!this.exists(instance)) return
    if (this.#references[instance] === 0 && this.#base[this.#parent[instance]] !== 0) this.#alive[this.#parent[instance]]++
    this.#references[instance] += count
  }

  forget(instance: number, count: number): void {
    if (!this.exists(instance) || this.#references[instance] === 0) return
    this.#references[instance] -= Math.min(count, this.#references[instance])
    if (this.#references[instance] === 0) this.#dropped(instance)
  }

  /** how many instance numbers are in use or were (the length of the table) */
  get length(): number { return this.#next }

  /** References of `instance` have ended: its parent's block goes when no sibling is alive and none has a block of its own. */
  #dropped(instance: number): void {
    const parent = this.#parent[instance]
    if (!this.#pinned.has(instance) && this.#base[parent] !== 0) {
      this.#alive[parent]--
      if (this.#alive[parent] === 0) this.#freeBlock(parent)
    }
    this.#settle(instance)
  }

  #freeBlock(instance: number): void {
    const base = this.#base[instance]
    const count = this.#children[instance]
    for (let child = base; child < base + count; child++) if (this.#base[child] !== 0) return
    this.#clear(base, count)
    this.#base[instance] = 0
    this.#children[instance] = 0
    // a parent whose own references ended earlier was kept by this block
    if (this.#references[instance] === 0) this.#settle(instance)
  }

  /** An instance without references: its own block may have been kept only by it. */
  #settle(instance: number): void {
    if (this.#references[instance] !== 0 || this.#pinned.has(instance)) return
    if (this.#base[instance] !== 0 && this.#alive[instance] === 0) this.#freeBlock(instance)
    if (this.#base[instance] !== 0) return
    const parent = this.#parent[instance]
    if (this.#base[parent] === 0) { if (instance !== ROOT_INSTANCE && this.#ino[instance] !== 0n) this.#clear(instance, 1) }
    else if (this.#alive[parent] === 0) this.#freeBlock(parent)
  }

  #clear(base: number, count: number): void {
    this.#ino.fill(0n, base, base + count)
    const list = this.#free.get(count)
    if (list === undefined) this.#free.set(count, [base])
    else list.push(base)
  }

  #set(instance: number, parent: number, position: number, tree: number, ino: bigint): void {
    this.#parent[instance] = parent
    this.#position[instance] = position
    this.#tree[instance] = tree
    this.#base[instance] = 0
    this.#children[instance] = 0
    this.#alive[instance] = 0
    this.#references[instance] = 0
    this.#ino[instance] = ino
  }

  #take(count: number): number {
    const free = this.#free.get(count)?.pop()
    if (free !== undefined) return free
    const base = this.#next
    this.#next += count
    while (this.#next > this.#capacity) this.#grow()
    return base
  }

  #grow(): void {
    this.#capacity *= 2
    const larger = (old: Uint32Array) => { const grown = new Uint32Array(this.#capacity); grown.set(old); return grown }
    this.#parent = larger(this.#parent)
    this.#position = larger(this.#position)
    this.#tree = larger(this.#tree)
    this.#base = larger(this.#base)
    this.#children = larger(this.#children)
    this.#alive = larger(this.#alive)
    this.#references = larger(this.#references)
    const ino = new BigUint64Array(this.#capacity)
    ino.set(this.#ino)
    this.#ino = ino
  }
}
