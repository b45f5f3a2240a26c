import type { Readable } from 'node:stream'
import { DaybookError } from '../../errors.js'

/** The answer ended before its time, or goes on beyond it: another try may do better. */
function wrongLength(location: string, got: number, wanted: number): DaybookError {
  return new DaybookError('ERR_UNREACHABLE', `${location} sent ${got} bytes of ${wanted}`)
}

/**
 * Bytes of an answer, put into `target` as they come; nothing is written to it any more once this has settled. What comes before `skip` is
 * thrown away, what would come behind is not waited for: a server may send the whole file instead of a part.
 * @throws what broke the stream; ERR_UNREACHABLE where it ends too early
 */
export function readInto(location: string, body: Readable, target: Buffer, skip: number, alive: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let position = -skip
    const settle = (error?: Error) => {
      body.off('data', take)
      if (error) reject(error)
      else resolve()
    }
    const take = (chunk: Buffer) => {
      alive()
      const start = Math.max(0, -position)
      if (start < chunk.length && position < target.length) chunk.copy(target, position + start, start, Math.min(chunk.length, target.length - position))
      position += chunk.length
      if (position <= target.length) return
      settle()
      body.destroy() // its connection is lost to others, which costs less than the rest of a pack
    }
    body.on('data', take)
    body.once('end', () => settle(position === target.length ? undefined : wrongLength(location, Math.max(0, position), target.length)))
    body.once('error', settle)
    body.once('close', () => settle(new DaybookError('ERR_UNREACHABLE', `${location} broke off its answer`)))
  })
}

/** All of an answer, up to a limit. @returns null if it is longer */
export async function readUpTo(body: Readable, maxLength: number, alive: () => void): Promise<Buffer | null> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    alive()
    length += chunk.length
    if (length > maxLength) return null // leaving the loop destroys the stream
    chunks.push(chunk)
  }
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)
}
