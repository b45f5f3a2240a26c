import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Ceph } from '../../test/fixtures/ceph.js'
import { Rclone } from '../../test/fixtures/rclone.js'
import type { Manifest } from './bench-repo.js'

/** A server that has the repository, on the loopback. */
export interface RemoteServer {
  readonly port: number
  /** the repository's location through another port */
  locationAt(port: number): string
  readonly env: NodeJS.ProcessEnv
  stop(): Promise<void>
}

export const SERVERS: Record<string, (manifest: Manifest, folder: string) => Promise<RemoteServer>> = {
  async rest({ repository }) {
    const server = await Rclone.start(dirname(repository))
    return { port: Number(new URL(server.url).port), locationAt: port => `rest:http://127.0.0.1:${port}/${basename(repository)}/`, env: {}, stop: () => server.stop() }
  },

  /** A Ceph cluster, filled first: takes a minute, and as much disk as the repository. */
  async s3({ repository }, folder) {
    const ceph = await Ceph.start(join(folder, 'ceph'))
    await ceph.makeBucket('bench')
    const files = readdirSync(repository, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
    for (const file of files) await ceph.put('bench', file.slice(repository.length + 1), readFileSync(file))
    return { port: Number(new URL(ceph.endpoint).port), locationAt: port => `s3:http://127.0.0.1:${port}/bench`, env: ceph.env, stop: () => ceph.stop() }
  },
}
