import { MAX_HANDLES } from './node-id.js'

const ID_LENGTH = 32

/**
 * Small numbers for tree ids, given out once and never taken back while the mount lives: node ids contain them, so they must not depend on
 * the local index, which may be rebuilt at any time. 40 bytes per tree seen. Handle 0 is never given out.
 */
export class TreeHandles {
  #ids = Buffer.alloc(1024 * ID_LENGTH)
  /** open addressing, by the first four bytes of the id (SHA-256, evenly spread); 0 is free */
  #slots = new Uint32Array(2048)
  #count = 1

  get size(): number { return this.#count - 1 }

  /** the handle of a tree id (32 bytes); a new one on first sight */
  of(id: Uint8Array): number {
    const key = Buffer.from(id.buffer, id.byteOffset, ID_LENGTH)
    let slot = this.#find(key)
    if (this.#slots[slot] !== 0) return this.#slots[slot]
    if (this.#count * 2 >= this.#slots.length) { this.#grow(); slot = this.#find(key) }
    const handle = this.#count++
    if (handle >= MAX_HANDLES) throw new RangeError(`more than ${MAX_HANDLES} directories in one mount`)
    key.copy(this.#ids, handle * ID_LENGTH)
    this.#slots[slot] = handle
    return handle
  }

  /** 32 bytes; a view that later calls of of() may leave behind, so do not keep it */
  id(handle: number): Buffer { return this.#ids.subarray(handle * ID_LENGTH, (handle + 1) * ID_LENGTH) }

  #find(id: Buffer): number {
    const mask = this.#slots.length - 1
    for (let slot = id.readUInt32LE(0) & mask; ; slot = (slot + 1) & mask) {
      const handle = this.#slots[slot]
      if (handle === 0 || id.compare(this.#ids, handle * ID_LENGTH, (handle + 1) * ID_LENGTH) === 0) return slot
    }
  }

  #grow(): void {
    const ids = Buffer.alloc(this.#ids.length * 2)
    this.#ids.copy(ids)
    this.#ids = ids
    this.#slots = new Uint32Array(this.#slots.length * 2)
    for (let handle = 1; handle < this.#count; handle++) this.#slots[this.#find(this.id(handle))] = handle
  }
}
