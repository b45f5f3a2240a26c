import { constants } from 'node:os'
import type { FileSystem } from '../../fs/file-system.js'
import type { PageCache } from '../../fs/sources.js'
import { faultFields } from '../../errors.js'
import { native, type NativeSession, type Push, type RequestId } from '../../native.js'
import type { Logger } from '../../util/log.js'
import { errnoOf, isOrdinary } from '../errno.js'
import { isEnding } from '../fatal-signal.js'

const { EINTR, ERANGE } = constants.errno

export interface TransportOptions {
  /** absolute path */
  readonly mountpoint: Buffer
  /** shown in /proc/mounts */
  readonly source: string
  readonly allowOther: boolean
  readonly owner: { uid: number, gid: number } | null
  readonly log: Logger
}

/**
 * The kernel's side of a mount, over libfuse3. Handlers decode, call the file system, reply; what is at hand is answered within the handler's own turn.
 */
export class Transport implements PageCache {
  readonly #session: NativeSession
  readonly #log: Logger
  /** requests that wait for a promise */
  readonly #waiting = new Set<RequestId>()
  #fs!: FileSystem
  readonly closed: Promise<number>

  constructor({ mountpoint, source, allowOther, owner, log }: TransportOptions) {
    this.#log = log
    // commas separate options and a backslash protects them (mount(8), libfuse's fuse_opt)
    const mountOptions = ['ro', 'nosuid', 'nodev', 'noatime', 'subtype=daybook', `fsname=${source.replace(/[\\,]/g, '\\$&')}`]
    if (allowOther) mountOptions.push('allow_other', 'default_permissions')
    let closed!: (errno: number) => void
    this.closed = new Promise(resolve => { closed = resolve })
    this.#session = new native.Session({
      mountpoint, mountOptions,
      // others may come in: then ACLs decide as they did on the original. Alone, one reads all of one's own backup.
      posixAcl: allowOther,
      ...(owner === null ? {} : { owner }),
      handlers: {
        lookup: (request, parent, name) => this.#answer(request, () => this.#fs.lookup(parent, name), entry => {
          if (entry.node === 0) this.#session.replyNegative(request, entry.ttl)
          else this.#session.replyEntry(request, entry.node, entry.rows, entry.position, entry.ino, entry.ttl, entry.ttl)
        }),
        forget: pairs => this.#fs.forget(pairs),
        getattr: (request, node) => this.#answer(request, () => this.#fs.getattr(node), ({ rows, position, ino, ttl }) =>
          this.#session.replyAttr(request, rows, position, ino, ttl)),
        readlink: (request, node) => this.#answer(request, () => this.#fs.readlink(node), target => this.#session.replyBytes(request, target)),
        read: (request, node, offset, size) => this.#answer(request, () => this.#fs.read(node, offset, size), parts => this.#session.replyBlobs(request, parts)),
        readdirplus: (request, node, offset) => this.#answer(request, () => this.#fs.readdirplus(node), listing =>
          this.#fs.listed(listing, offset, this.#session.replyDirents(request, listing.rows, listing))),
        getxattr: (request, node, name, size) => this.#answer(request, () => this.#fs.getxattr(node, name), value => this.#replySized(request, value, size)),
        listxattr: (request, node, size) => this.#answer(request, () => this.#fs.listxattr(node), names => this.#replySized(request, names, size)),
        lseek: (request, node, offset, whence) => this.#answer(request, () => this.#fs.lseek(node, offset, whence), found => this.#session.replyOffset(request, found)),
        statfs: request => this.#session.replyStatfs(request, this.#fs.statfs()),
        interrupt: (request, thread) => this.#interrupt(request, thread),
        listed: node => this.#fs.listedToTheEnd(node),
        closed,
        failed: (operation, error) => this.#report(operation, error),
      },
    })
  }

  /** Mount and serve. @throws Error with code and errno when the kernel or fusermount3 refuses */
  mount(fs: FileSystem): void {
    this.#fs = fs
    this.#session.mount()
  }

  get device(): { major: number, minor: number } { return this.#session.device }
  push(items: Push[]): Promise<number> { return this.#session.push(items) }
  setAbsentXattrs(names: string[]): void { this.#session.setAbsentXattrs(names) }
  stats(): Record<string, number> { return this.#session.stats() }

  /** The name means something else now, and the directory's list is another. */
  async changed(parent: number, names: readonly string[]): Promise<void> {
    await Promise.all([this.#session.invalidateNode(parent), ...names.map(name => this.#session.invalidateEntry(parent, Buffer.from(name)))])
  }

  /** Everything open gets EIO; unmounts if it is still mounted. Idempotent. */
  close(): void { this.#session.close() }

  #replySized(request: RequestId, bytes: Buffer, size: number): void {
    if (size === 0) this.#session.replySize(request, bytes.length)
    else if (bytes.length > size) this.#session.replyError(request, ERANGE)
    else this.#session.replyBytes(request, bytes)
  }

  /** Reply now or when the promise settles, unless the request was answered meanwhile (interrupted, closed). */
  #answer<T>(request: RequestId, ask: () => T | Promise<T>, reply: (value: T) => void): void {
    let value: T | Promise<T>
    try {
      value = ask()
    } catch (error) {
      this.#fail(request, error)
      return
    }
    if (!(value instanceof Promise)) { reply(value); return }
    this.#waiting.add(request)
    value.then(
      value => { if (this.#waiting.delete(request)) reply(value) },
      (error: unknown) => { if (this.#waiting.delete(request)) this.#fail(request, error) },
    ).catch((error: unknown) => this.#report('reply', error))
  }

  #fail(request: RequestId, error: unknown): void {
    if (!isOrdinary(error)) this.#report('request', error)
    this.#session.replyError(request, errnoOf(error))
  }

  /** The fetch goes on for others that wait for it; only this caller is let go. */
  #interrupt(request: RequestId, thread: number): void {
    if (isEnding(thread) && this.#waiting.delete(request)) this.#session.replyError(request, EINTR)
  }

  #report(operation: string, error: unknown): void {
    this.#log.error(`${operation}: ${error instanceof Error ? error.message : String(error)}`, faultFields(error))
  }
}
