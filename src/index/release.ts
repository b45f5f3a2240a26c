import { MessageChannel } from 'node:worker_threads'

/**
 * Give the memory of large buffers back now. A buffer that is merely forgotten is freed by a garbage collection, and one comes about only for every
 * 64 MiB of such buffers: while index files are loaded that is all a process may take. Moved into a message that nobody receives, they are freed with it.
 * The views are empty afterwards.
 */
export function release(views: readonly Uint8Array[]): void {
  const { port1, port2 } = new MessageChannel()
  port1.close()
  for (const { buffer } of views) {
    // One that is shared with others (small ones come from Node's pool) cannot be moved.
    try { port2.postMessage(null, [buffer as ArrayBuffer]) } catch { /* as before */ }
  }
  port2.close()
}
