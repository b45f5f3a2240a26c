import type { Backend, Handle, SaveOptions } from './backend.js'
import { ConnectionLimit } from './connection-limit.js'
import { RetryBackend, type RetryOptions } from './retry.js'

/** As ConnectionLimit, of a backend that can be written to. */
export class WritableConnectionLimit extends ConnectionLimit implements Backend {
  constructor(private readonly writable: Backend) { super(writable) }

  create(options: SaveOptions = {}): Promise<void> { return this.around(options, inner => this.writable.create(inner)) }
  save(handle: Handle, bytes: Buffer, options: SaveOptions = {}): Promise<void> { return this.around(options, inner => this.writable.save(handle, bytes, inner)) }
  remove(handle: Handle, options: SaveOptions = {}): Promise<void> { return this.around(options, inner => this.writable.remove(handle, inner)) }
}

/** As RetryBackend, of a backend that can be written to. A file saved twice is the same file. */
export class WritableRetry extends RetryBackend implements Backend {
  constructor(private readonly writable: Backend, options: RetryOptions) { super(writable, options) }

  create(options: SaveOptions = {}): Promise<void> { return this.around(options, inner => this.writable.create(inner)) }
  save(handle: Handle, bytes: Buffer, options: SaveOptions = {}): Promise<void> { return this.around(options, inner => this.writable.save(handle, bytes, inner)) }
  remove(handle: Handle, options: SaveOptions = {}): Promise<void> { return this.around(options, inner => this.writable.remove(handle, inner)) }
}
