import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Handle } from '../../src/backend/backend.js'
import { LocalBackend } from '../../src/backend/local.js'
import { MemoryBackend } from '../../src/backend/memory.js'
import { backendSuite } from '../fixtures/backend-suite.js'
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
backendSuite(t, 'local', () => localUnderTest((root, { type, name }) => type === 'data' ? join(root, 'data', name.slice(0, 2), name) : join(root, type, name)))
backendSuite(t, 'local, packs right in data/', () => localUnderTest((root, { type, name }) => join(root, type, name)))
