import { encodeRows, TreeRows } from '../format/tree-rows.js'
import { native } from '../native.js'
import { firstNot } from '../util/binary-search.js'
import { Directories, NO_TREE, VIRTUAL } from './directories.js'
import { FileReader } from './file-reader.js'
import { FsError } from './fs-error.js'
import type { LayoutDirectory } from './layout.js'
import { DIRECTORY_BIT, POSITIONS, directoryNode, fileNode, handleOf, instanceOf, isDirectoryNode, positionOf } from './node-id.js'
import type { BlobSource, PageCache, ReadPart, SnapshotEntry, TreeSource } from './sources.js'
import { Sweep } from './sweep.js'
import { TreeAhead } from './tree-ahead.js'
import { TreeHandles } from './tree-handles.js'
import { VirtualTree, rootIno, type Change, type SnapshotRoot, type VirtualDirectory } from './virtual-tree.js'

/** Seconds for which the kernel may believe what it was told of a directory where snapshots come and go. */
const LIST_TTL = 1
/** Files up to this size belong to a sweep through their directory. */
const SMALL_FILE = 4 * 1024 * 1024

type Maybe<T> = T | Promise<T>

/** Attributes: a row, the inode number where it is not the row's, and how long they hold, in seconds. */
export interface Attributes { readonly rows: Buffer, readonly position: number, readonly ino: bigint | null, readonly ttl: number }
/** An answer to lookup. node 0: there is no such name. */
export interface Entry extends Attributes { readonly node: number }
/** An answer to readdirplus; see NativeSession.replyDirents. */
export interface Listing {
  readonly rows: Buffer
  readonly ino: bigint
  readonly parentIno: bigint
  readonly fileBase: number
  readonly directoryBase: number
  readonly nodes: Float64Array | null
  readonly ttl: number
  readonly immutable: boolean
}

export interface FileSystemOptions {
  readonly trees: TreeSource
  readonly blobs: BlobSource
  readonly pages: PageCache
  /** of directories of our own making */
  readonly owner: { uid: number, gid: number }
  /** what df shows: bytes and number of files */
  readonly usage: () => { bytes: number, files: number }
}

const NO_ENTRY: Entry = { node: 0, rows: Buffer.alloc(0), position: 0, ino: null, ttl: Infinity }

/**
 * What users see, without a kernel: nodes, names, attributes, contents. Operations are named as in the FUSE protocol and answer at once where the answer
 * is at hand, else with a promise. They throw or reject with FsError, or with whatever the sources threw (EIO for the caller).
 * Promises to applications: SEMANTICS.md.
 */
export class FileSystem {
  readonly #trees: TreeSource
  readonly #handles = new TreeHandles()
  readonly #directories = new Directories(rootIno())
  readonly #virtual: VirtualTree
  readonly #reader: FileReader
  readonly #sweep: Sweep
  readonly #treeAhead: TreeAhead
  readonly #usage: FileSystemOptions['usage']

  constructor({ trees, blobs, pages, owner, usage }: FileSystemOptions) {
    this.#trees = trees
    this.#virtual = new VirtualTree(this.#directories, owner)
    this.#reader = new FileReader(blobs, pages)
    this.#sweep = new Sweep({ trees, blobs, pages, handles: this.#handles, directories: this.#directories })
    this.#treeAhead = new TreeAhead({ trees, handles: this.#handles, directories: this.#directories })
    this.#usage = usage
  }

  /**
   * Show these snapshots. @param rootOf tree (32 bytes, or null: unreadable) and attributes of each snapshot's root
   * @returns names that mean something else than before
   */
  show(layout: LayoutDirectory, rootOf: (snapshot: SnapshotEntry) => { tree: Uint8Array | null, attributes: SnapshotRoot['attributes'] }): Change[] {
    return this.#virtual.apply(layout, snapshot => {
      const { tree, attributes } = rootOf(snapshot)
      return { tree: tree === null ? NO_TREE : this.#handles.of(tree), attributes }
    })
  }

  /** node id of the directory of a Change */
  nodeOfChange(change: Change): number { return directoryNode(change.parent) }

  lookup(parent: number, name: Buffer): Maybe<Entry> {
    if (!isDirectoryNode(parent)) throw new FsError('ENOTDIR')
    const instance = this.#instance(parent)
    const directory = this.#virtual.directory(instance)
    if (directory !== undefined) return this.#lookupVirtual(directory, name)
    return then(this.#rowsOf(instance), rows => {
      const position = native.findRow(rows, name)
      if (position < 0) return NO_ENTRY
      const view = viewOf(rows)
      if (!view.isDirectory(position)) {
        const node = fileNode(this.#directories.tree(instance), position, view.hasXattrs(position))
        return { node, rows, position, ino: null, ttl: Infinity }
      }
      const child = this.#block(instance, rows) + view.ordinal(position)
      this.#directories.reference(child)
      return { node: directoryNode(child), rows, position, ino: this.#directories.ino(child), ttl: Infinity }
    })
  }

  getattr(node: number): Maybe<Attributes> {
    if (!isDirectoryNode(node)) {
      const link = this.#virtual.link(node)
      if (link !== undefined) return { rows: encodeRows([link]), position: 0, ino: null, ttl: LIST_TTL }
      return then(this.#rowsOfHandle(handleOf(node)), rows => ({ rows, position: positionOf(node), ino: null, ttl: Infinity }))
    }
    const instance = this.#instance(node)
    const ino = this.#directories.ino(instance)
    const directory = this.#virtual.directory(instance)
    if (directory !== undefined) return { rows: encodeRows([this.#virtual.rowOf(directory)]), position: 0, ino, ttl: LIST_TTL }
    const parent = this.#directories.parent(instance)
    const left = this.#virtual.left(instance)
    if (left !== undefined) return { rows: encodeRows([left]), position: 0, ino, ttl: LIST_TTL }
    const above = this.#virtual.directory(parent)
    if (above !== undefined) {
      const position = above.nodes.indexOf(node)
      if (position >= 0) return { rows: above.rows, position, ino, ttl: LIST_TTL }
      throw new FsError('ESTALE')
    }
    return then(this.#rowsOf(parent), rows => ({ rows, position: this.#directories.position(instance), ino, ttl: Infinity }))
  }

  /** The whole directory. Call listed() with what was put into the answer. */
  readdirplus(node: number): Maybe<Listing> {
    const instance = this.#instance(node)
    const ino = this.#directories.ino(instance)
    const parent = this.#directories.parent(instance)
    const parentIno = parent === 0 ? ino : this.#directories.ino(parent)
    const directory = this.#virtual.directory(instance)
    if (directory !== undefined) {
      return { rows: directory.rows, ino, parentIno, fileBase: 0, directoryBase: 0, nodes: directory.nodes, ttl: LIST_TTL, immutable: false }
    }
    return then(this.#rowsOf(instance), rows => {
      const handle = this.#directories.tree(instance)
      const directoryBase = this.#block(instance, rows)
      this.#sweep.listing(instance, handle)
      this.#treeAhead.listing(instance, handle, rows)
      return { rows, ino, parentIno, fileBase: handle * POSITIONS, directoryBase, nodes: null, ttl: Infinity, immutable: true }
    })
  }

  /** The kernel was given `count` entries of a listing from `offset` on ('.' is 0, '..' is 1): it holds a reference to each directory among them. */
  listed(listing: Listing, offset: number, count: number): void {
    if (count === 0) return
    if (listing.nodes !== null) {
      for (const node of listing.nodes.subarray(Math.max(0, offset - 2), Math.max(0, offset + count - 2))) this.#referenceVirtual(node)
      return
    }
    if (listing.directoryBase === 0) return
    const all = directoryCount(listing.rows)
    let first = 0
    let end = all
    // most directories are listed in one answer
    if (offset > 2 || offset + count < viewOf(listing.rows).count + 2) {
      const positions = viewOf(listing.rows).directoryPositions
      first = firstNot(positions.length, i => positions[i] < offset - 2)
      end = firstNot(positions.length, i => positions[i] < offset + count - 2)
    }
    for (let ordinal = first; ordinal < end; ordinal++) this.#directories.reference(listing.directoryBase + ordinal)
  }

  /** The kernel has seen the end of this directory's listing. */
  listedToTheEnd(node: number): void {
    const instance = instanceOf(node)
    const handle = this.#directories.exists(instance) ? this.#directories.tree(instance) : VIRTUAL
    if (handle === VIRTUAL || handle === NO_TREE) return
    this.#sweep.listed(handle)
  }

  /** @param pairs [node, count, ...] */
  forget(pairs: Float64Array): void {
    for (let i = 0; i < pairs.length; i += 2) if (pairs[i] >= DIRECTORY_BIT) this.#directories.forget(instanceOf(pairs[i]), pairs[i + 1])
  }

  readlink(node: number): Maybe<Buffer> {
    const link = this.#virtual.link(node)
    if (link?.target !== undefined) return link.target
    return then(this.#rowsOfHandle(handleOf(node)), rows => {
      const view = viewOf(rows)
      if (!view.isSymlink(positionOf(node))) throw new FsError('EINVAL')
      return view.target(positionOf(node))
    })
  }

  read(node: number, offset: number, size: number): Maybe<ReadPart[]> {
    return then(this.#rowsOfHandle(handleOf(node)), rows => {
      const view = viewOf(rows)
      const position = positionOf(node)
      if (!view.isRegular(position)) throw new FsError('EINVAL')
      const parts = this.#reader.read(node, view.content(position), offset, size)
      // after the request's own fetch was begun, so that the sweep's stand behind it
      if (offset === 0 && view.size(position) <= SMALL_FILE) this.#sweep.read(handleOf(node), position, rows)
      return parts
    })
  }

  /** @param whence 3 SEEK_DATA, 4 SEEK_HOLE */
  lseek(node: number, offset: number, whence: number): Maybe<number> {
    if (whence !== 3 && whence !== 4) throw new FsError('EINVAL')
    return then(this.#rowsOfHandle(handleOf(node)), rows => {
      const view = viewOf(rows)
      if (!view.isRegular(positionOf(node))) throw new FsError('EINVAL')
      return then(this.#reader.seek(node, view.content(positionOf(node)), offset, whence === 3 ? 'data' : 'hole'), found => {
        if (found < 0) throw new FsError('ENXIO')
        return found
      })
    })
  }

  /** names, each with a NUL behind it, as listxattr(2) gives them */
  listxattr(node: number): Maybe<Buffer> {
    return then(this.#xattrs(node), xattrs => Buffer.concat(xattrs.flatMap(({ name }) => [name, Buffer.alloc(1)])))
  }

  getxattr(node: number, name: Buffer): Maybe<Buffer> {
    // ls asks every file for its ACL and label until it is told that this device has none
    if (!this.#trees.complete) this.#trees.hurry()
    return then(this.#xattrs(node), xattrs => {
      const found = xattrs.find(xattr => xattr.name.equals(name))
      if (found === undefined) throw new FsError('ENODATA')
      return found.value
    })
  }

  statfs(): { blocks: number, bfree: number, files: number, ffree: number, bsize: number, namemax: number } {
    const { bytes, files } = this.#usage()
    return { blocks: Math.ceil(bytes / 4096), bfree: 0, files, ffree: 0, bsize: 4096, namemax: 255 }
  }

  #xattrs(node: number): Maybe<{ name: Buffer, value: Buffer }[]> {
    if (isDirectoryNode(node)) {
      return then(this.getattr(node), ({ rows, position }) => viewOf(rows).xattrs(position))
    }
    if (this.#virtual.link(node) !== undefined) return []
    return then(this.#rowsOfHandle(handleOf(node)), rows => viewOf(rows).xattrs(positionOf(node)))
  }

  #instance(node: number): number {
    const instance = instanceOf(node)
    if (!this.#directories.exists(instance)) throw new FsError('ESTALE')
    return instance
  }

  #lookupVirtual(directory: VirtualDirectory, name: Buffer): Entry {
    const child = this.#virtual.find(directory, name)
    if (child === null) return { ...NO_ENTRY, ttl: 0 }
    this.#referenceVirtual(child.node)
    return { node: child.node, rows: encodeRows([child.row]), position: 0, ino: child.row.ino, ttl: LIST_TTL }
  }

  /** Ours and the snapshots' directories are counted, too: once they have left the layout, their numbers stay taken while the kernel holds them. */
  #referenceVirtual(node: number): void {
    if (isDirectoryNode(node)) this.#directories.reference(instanceOf(node))
  }

  #block(instance: number, rows: Buffer): number {
    const known = this.#directories.blockOf(instance)
    if (known !== 0 || directoryCount(rows) === 0) return known
    const view = viewOf(rows)
    const positions = view.directoryPositions
    const ino = this.#directories.ino(instance)
    return this.#directories.block(instance, positions.length, ordinal => {
      const position = positions[ordinal]
      const subtree = view.subtree(position)
      return { position, tree: subtree === null ? NO_TREE : this.#handles.of(subtree), ino: native.directoryIno(ino, position) }
    })
  }

  #rowsOf(instance: number): Maybe<Buffer> {
    const handle = this.#directories.tree(instance)
    if (handle === NO_TREE) throw new FsError('EIO', 'a directory without a readable tree')
    return then(this.#rowsOfHandle(handle), rows => {
      // early restic stored "." or "/" as a directory around what was meant (restic #403, #421)
      const replacement = viewOf(rows).replacement
      if (replacement === null || this.#virtual.directory(this.#directories.parent(instance)) === undefined) return rows
      this.#directories.setTree(instance, this.#handles.of(replacement))
      return this.#rowsOf(instance)
    })
  }

  #rowsOfHandle(handle: number): Maybe<Buffer> {
    if (handle === VIRTUAL || handle > this.#handles.size) throw new FsError('ESTALE')
    const id = this.#handles.id(handle)
    return this.#trees.peek(id) ?? this.#trees.load(Buffer.from(id))
  }
}

let lastView: TreeRows | null = null

/** A view of rows. The last one is kept: what comes in many requests is large, and remembers which of its rows are directories. */
function viewOf(rows: Buffer): TreeRows {
  return lastView?.bytes === rows ? lastView : lastView = new TreeRows(rows)
}

/** Number of directories among rows, without a view of them (format/tree-rows.ts, header). */
function directoryCount(rows: Buffer): number { return rows.readUInt32LE(20) }

/** Go on at once where the value is at hand: a promise costs a turn of the microtask queue per request. */
function then<T, R>(value: Maybe<T>, next: (value: T) => Maybe<R>): Maybe<R> {
  return value instanceof Promise ? value.then(next) : next(value)
}
