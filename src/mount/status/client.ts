import { connect } from 'node:net'
import { forEachLimited } from '../../util/concurrency.js'
import { encodeLine, MAX_ANSWER_BYTES, PROTOCOL } from './protocol.js'
import type { ProcessStatus } from './record.js'
import { listSockets, removeStale, runtimeDirectory } from './runtime-directory.js'

const PATIENCE_MS = 3000
const ASKED_AT_ONCE = 16

/** Ask the process at a socket. @throws Error with the code of connect(2), or ETIMEDOUT, EPROTO */
export function ask(path: string, what: string, patienceMs = PATIENCE_MS): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    const chunks: Buffer[] = []
    let length = 0
    const fail = (code: string, message: string) => {
      socket.destroy()
      reject(Object.assign(new Error(`${path}: ${message}`), { code }))
    }
    const timer = setTimeout(() => fail('ETIMEDOUT', 'no answer'), patienceMs)
    socket.on('error', reject).on('close', () => clearTimeout(timer))
    socket.on('data', chunk => {
      chunks.push(chunk)
      length += chunk.length
      if (length > MAX_ANSWER_BYTES) fail('EPROTO', 'too long an answer')
    }).on('end', () => {
      try {
        const message = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>
        if (message.daybook === PROTOCOL && message.error === undefined) return resolve(message)
        fail('EPROTO', typeof message.error === 'string' ? message.error : 'another version')
      } catch { fail('EPROTO', 'not an answer') }
    })
    socket.end(encodeLine({ ask: what }))
  })
}

/** What every process of this user says that has mounts. Those that do not answer are left out; what killed ones left behind is removed. @throws errors of node:fs (EACCES) */
export async function askAll(directory = runtimeDirectory()): Promise<ProcessStatus[]> {
  const found: ProcessStatus[] = []
  await forEachLimited(await listSockets(directory), ASKED_AT_ONCE, async path => {
    try {
      const { status } = await ask(path, 'status') as { status?: ProcessStatus }
      if (Array.isArray(status?.mounts)) found.push(status)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') await removeStale(path)
    }
  })
  return found
}
