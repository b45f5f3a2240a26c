import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { ProxyCounts, ProxyOrder } from './delay-proxy.js'

/** A delay proxy in a process of its own: its timers must not wait for ours, nor we for the bytes. */
export class FarLink {
  private constructor(readonly port: number, readonly child: ChildProcess) {}

  static async start(order: ProxyOrder): Promise<FarLink> {
    const child = fork(fileURLToPath(new URL('delay-proxy.js', import.meta.url)), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    child.send(order)
    const [{ listening }] = await once(child, 'message') as [{ listening: number }]
    return new FarLink(listening, child)
  }

  /** Since the last time this was asked. */
  async counts(): Promise<ProxyCounts> {
    const answer = once(this.child, 'message') as Promise<[{ counts: ProxyCounts }]>
    this.child.send('counts')
    return (await answer)[0].counts
  }

  stop(): void { this.child.kill() }
}
