import type { FileInfo, FileType, Handle, LocationHealth, ReadBackend, ReadOptions, Replicas } from './backend.js'

/** A backend around another one, doing the same to every request. */
export abstract class AroundBackend implements ReadBackend {
  constructor(protected readonly inner: ReadBackend) {}

  get location(): string { return this.inner.location }
  get connections(): number { return this.inner.connections }
  get sources(): number { return this.inner.sources ?? 1 }
  get replicas(): Replicas | undefined { return this.inner.replicas }
  health(): LocationHealth[] { return this.inner.health?.() ?? [] }

  list(type: Exclude<FileType, 'config'>, options: ReadOptions = {}): Promise<FileInfo[]> {
    return this.around(options, inner => this.inner.list(type, inner))
  }

  read(handle: Handle, offset: number, length: number, options: ReadOptions = {}): Promise<Buffer> {
    return this.around(options, inner => this.inner.read(handle, offset, length, inner))
  }

  readAll(handle: Handle, maxLength: number, options: ReadOptions = {}): Promise<Buffer> {
    return this.around(options, inner => this.inner.readAll(handle, maxLength, inner))
  }

  stat(handle: Handle, options: ReadOptions = {}): Promise<FileInfo> {
    return this.around(options, inner => this.inner.stat(handle, inner))
  }

  close(): Promise<void> { return this.inner.close() }

  /** @param request to be called with the options meant for the inner backend, once or several times */
  protected abstract around<T>(options: ReadOptions, request: (options: ReadOptions) => Promise<T>): Promise<T>
}
