import { readdir, stat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'

/** sun_path of unix(7), without the NUL that ends it */
const MAX_SOCKET_PATH = 107
/** Between bind(2) and listen(2) a socket refuses, too. */
const YOUNG_MS = 2000
const SUFFIX = '.sock'

/** Where processes of this user have their sockets: $DAYBOOK_RUNTIME_DIR, else for root /run/daybook, else $XDG_RUNTIME_DIR/daybook. */
export function runtimeDirectory(env: NodeJS.ProcessEnv = process.env, uid = process.getuid!()): string {
  if (env.DAYBOOK_RUNTIME_DIR?.startsWith('/')) return env.DAYBOOK_RUNTIME_DIR
  // Not root's own variable: a session of root's has it, and a service does not.
  if (uid === 0) return '/run/daybook'
  return join(env.XDG_RUNTIME_DIR?.startsWith('/') ? env.XDG_RUNTIME_DIR : `/run/user/${uid}`, 'daybook')
}

/** A name no other process has, in another container neither. @throws RangeError if it is too long for a socket */
export function socketPath(directory: string): string {
  const path = join(directory, `${process.pid}-${Math.random().toString(36).slice(2, 10)}${SUFFIX}`)
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) throw new RangeError(`${directory} is too long a name for a socket in it`)
  return path
}

/** Sockets in the directory, [] without one. @throws errors of node:fs (EACCES) */
export async function listSockets(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(error => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
    return [] as string[]
  })
  return names.filter(name => name.endsWith(SUFFIX)).map(name => join(directory, name))
}

/** Remove what processes that were killed left behind. Never rejects. */
export async function removeStaleSockets(directory: string): Promise<void> {
  for (const path of await listSockets(directory).catch(() => [])) {
    if (await refuses(path)) await removeStale(path)
  }
}

/** A socket that refused a connection. */
export async function removeStale(path: string): Promise<void> {
  try {
    const { mtimeMs } = await stat(path)
    if (Date.now() - mtimeMs > YOUNG_MS) await unlink(path)
  } catch { /* gone, or not ours */ }
}

function refuses(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.on('connect', () => { socket.destroy(); resolve(false) }).on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
}
