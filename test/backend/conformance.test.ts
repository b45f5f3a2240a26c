import { chmodSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Handle, ReadBackend } from '../../src/backend/backend.js'
import { BandwidthLimit } from '../../src/backend/bandwidth.js'
import { ConnectionLimit } from '../../src/backend/connection-limit.js'
import { LocalBackend } from '../../src/backend/local.js'
import { MemoryBackend } from '../../src/backend/memory.js'
import { ReplicaBackend } from '../../src/backend/replicas.js'
import { RetryBackend } from '../../src/backend/retry.js'
import { WritableConnectionLimit, WritableRetry } from '../../src/backend/writable.js'
import { backendSuite, writingSuite } from '../fixtures/backend-suite.js'
import { FaultyBackend } from '../fixtures/faulty-backend.js'

let folders = 0

function localUnderTest(pathOf: (root: string, handle: Handle) => string) {
  const root = join(t.testdirName, String(folders++))
  return {
    backend: new LocalBackend(root),
    put: (handle: Handle, bytes: Buffer) => {
      const path = pathOf(root, handle)
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, bytes)
      // What else may lie about in a folder of a repository.
      writeFileSync(join(dirname(path), 'README.txt'), 'not a file of the repository')
      writeFileSync(join(dirname(path), '.tmp-0123'), '')
      mkdirSync(join(dirname(path), 'f'.repeat(64)), { recursive: true })
    },
    remove: (handle: Handle) => rmSync(pathOf(root, handle)),
  }
}

t.testdir({})
backendSuite(t, 'memory', () => {
  const backend = new MemoryBackend()
  return { backend, put: (handle, bytes) => backend.put(handle, bytes), remove: handle => backend.remove(handle) }
})
backendSuite(t, 'faulty, without faults', () => {
  const memory = new MemoryBackend()
  return { backend: new FaultyBackend(memory), put: (handle, bytes) => memory.put(handle, bytes), remove: handle => memory.remove(handle) }
})
for (const [name, wrap] of Object.entries<(inner: ReadBackend) => ReadBackend>({
  'with retries': inner => new RetryBackend(inner, { timeoutMs: 60_000 }),
  'with a limit of connections': inner => new ConnectionLimit(inner),
  'with replicas': inner => new ReplicaBackend([inner, new MemoryBackend()]),
  'as a replica': inner => new ReplicaBackend([new MemoryBackend(), inner]),
  'with a limit of the bandwidth': inner => new BandwidthLimit(inner, 50_000),
})) {
  backendSuite(t, name, () => {
    const memory = new MemoryBackend()
    return { backend: wrap(memory), put: (handle, bytes) => memory.put(handle, bytes), remove: handle => memory.remove(handle) }
  })
}
backendSuite(t, 'local', () => localUnderTest((root, { type, name }) => type === 'data' ? join(root, 'data', name.slice(0, 2), name) : join(root, type, name)))
backendSuite(t, 'local, packs right in data/', () => localUnderTest((root, { type, name }) => join(root, type, name)))

writingSuite(t, 'memory', () => {
  const backend = new MemoryBackend()
  return { backend, reader: backend }
})
writingSuite(t, 'with retries and a limit of connections', () => {
  const reader = new MemoryBackend()
  return { backend: new WritableRetry(new WritableConnectionLimit(reader), { timeoutMs: 60_000 }), reader }
})
writingSuite(t, 'local', () => {
  const root = join(t.testdirName, String(folders++))
  return { backend: new LocalBackend(root), reader: new LocalBackend(root) }
})

t.test('a file in a folder has the modes restic gives it, and leaves nothing beside it', async t => {
  for (const [config, file] of [[0o400, 0o400], [0o440, 0o440]] as const) {
    const root = join(t.testdir({}), config.toString(8))
    const backend = new LocalBackend(root)
    await backend.create()
    await backend.save({ type: 'config', name: '' }, Buffer.from('config'))
    chmodSync(join(root, 'config'), config)
    const next = new LocalBackend(root)
    const name = 'ab'.repeat(32)
    await next.save({ type: 'data', name }, Buffer.from('pack'))
    t.equal(statSync(join(root, 'data', 'ab', name)).mode & 0o777, file)
    t.strictSame(readdirSync(join(root, 'data', 'ab')), [name])
    await t.rejects(next.save({ type: 'data', name: '../../escape' }, Buffer.from('x')), { code: 'ERR_USAGE' })
    await Promise.all([backend.close(), next.close()])
  }
})
