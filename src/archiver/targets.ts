import { DaybookError } from '../errors.js'
import type { StreamSource } from './stream-source.js'

/** What a snapshot is to hold: names from its root on, down to the paths that were named. */
export interface TargetDirectory {
  /** in no order; keys are the bytes of names as latin1 */
  readonly entries: Map<string, TargetEntry>
}

export type TargetEntry =
  /** this path, with all that is below it. `explicit`: named as it is, so no exclude keeps it out */
  | { readonly kind: 'path', readonly path: Buffer, readonly explicit: boolean }
  /** one file, whose contents come out of a descriptor */
  | { readonly kind: 'stream', readonly path: null, readonly source: StreamSource, /** ms since 1970 */ readonly timeMs: number }
  /** a directory on the way there, which has the attributes of `path`; null: made up */
  | TargetDirectory & { readonly kind: 'directory', readonly path: Buffer | null, /** where the names below it begin: two trees of one name are kept apart */ readonly root: string }

/** Names in a directory, for a target that is replaced by what is in it. */
export type ListNames = (path: Buffer) => Promise<Buffer[]>

/**
 * The tree that restic makes of paths: /home/alice is home/alice, ./alice and ../alice are alice, and `.` and `..` stand for what is in them. A path inside of
 * another one adds nothing but that no exclude keeps it out.
 * @throws DaybookError ERR_USAGE: the same name for two paths
 */
export async function targetsOf(paths: readonly Buffer[], list: ListNames): Promise<TargetDirectory> {
  const root: TargetDirectory = { entries: new Map() }
  const seen = new Set<string>()
  const add = async (clean: string, explicit: boolean) => {
    if (seen.has(clean)) return
    seen.add(clean)
    await addPath(root, clean, explicit, list)
  }
  for (const path of paths) {
    const clean = cleanPath(path.toString('latin1'))
    if (namesOf(clean).length > 0) await add(clean, true)
    else for (const name of await list(Buffer.from(clean, 'latin1'))) await add(joined(clean, name.toString('latin1')), false)
  }
  return root
}

/** Put a path under a name of one's own choice. @param name as /mails/alice, from the root of the snapshot @throws DaybookError ERR_USAGE */
export function addNamedTarget(root: TargetDirectory, name: string, path: Buffer): void {
  const parts = namesOf(cleanPath(`/${name}`))
  if (parts.length === 0) throw new DaybookError('ERR_USAGE', `--set-path ${name}: no name`)
  let at = root
  for (const part of parts.slice(0, -1)) {
    const there = at.entries.get(part) ?? { kind: 'directory', path: null, root: '', entries: new Map<string, TargetEntry>() }
    if (there.kind !== 'directory') throw new DaybookError('ERR_USAGE', `--set-path ${name}: ${part} is a path of its own`)
    at.entries.set(part, there)
    at = there
  }
  const last = parts[parts.length - 1]
  if (at.entries.has(last)) throw new DaybookError('ERR_USAGE', `--set-path ${name} is there twice`)
  at.entries.set(last, { kind: 'path', path, explicit: true })
}

/** One file out of a stream, and nothing else. @throws DaybookError ERR_USAGE: no name */
export function streamTarget(source: StreamSource, timeMs: number): TargetDirectory {
  const parts = namesOf(cleanPath(`/${source.path}`)).map(part => Buffer.from(part).toString('latin1'))
  if (parts.length === 0) throw new DaybookError('ERR_USAGE', `${source.path} is no name for a file`)
  let entry: TargetEntry = { kind: 'stream', path: null, source, timeMs }
  for (const part of parts.slice(1).reverse()) entry = { kind: 'directory', path: null, root: '', entries: new Map([[part, entry]]) }
  return { entries: new Map([[parts[0], entry]]) }
}

async function addPath(top: TargetDirectory, clean: string, explicit: boolean, list: ListNames): Promise<void> {
  const parts = namesOf(clean)
  const start = clean.startsWith('/') ? '/' : '../'.repeat(clean.split('/').filter(part => part === '..').length) || '.'
  let at = top
  let path = start === '/' ? '' : start.replace(/\/$/, '')
  for (const [depth, part] of parts.entries()) {
    path = path === '.' ? part : `${path}/${part}`
    // Of relative paths, two directories may have one name at the root: the second becomes name-1.
    let name = part
    for (let i = 1; depth === 0 && rootOf(at.entries.get(name), start) !== start; i++) name = `${part}-${i}`
    const there = at.entries.get(name)
    if (there?.kind === 'stream') throw new DaybookError('ERR_USAGE', `${clean} is a stream`)
    if (depth === parts.length - 1) {
      if (there === undefined || there.kind === 'path') at.entries.set(name, Object.assign({ kind: 'path', path: Buffer.from(path, 'latin1'), explicit } as const, { root: start }))
      else await unroll(there, path, list)
      return
    }
    if (there?.kind === 'path') {
      // All of it is in the snapshot anyway; what was named below it is to be there whatever is excluded.
      const directory = { kind: 'directory' as const, path: there.path, root: start, entries: new Map<string, TargetEntry>() }
      at.entries.set(name, directory)
      await unroll(directory, path, list)
      at = directory
    } else {
      const directory = there ?? { kind: 'directory' as const, path: Buffer.from(path, 'latin1'), root: start, entries: new Map<string, TargetEntry>() }
      at.entries.set(name, directory)
      at = directory
    }
  }
}

/** A directory of which both a part and all was named: its entries, one by one. */
async function unroll(directory: TargetDirectory, path: string, list: ListNames): Promise<void> {
  for (const bytes of await list(Buffer.from(path, 'latin1'))) {
    const name = bytes.toString('latin1')
    const there = directory.entries.get(name)
    if (there === undefined) directory.entries.set(name, { kind: 'path', path: Buffer.from(joined(path, name), 'latin1'), explicit: false })
    else if (there.kind === 'directory') await unroll(there, joined(path, name), list)
  }
}

function rootOf(entry: TargetEntry | undefined, start: string): string {
  return (entry as { root?: string } | undefined)?.root ?? start
}

/** Names on the way, without `.` and `..`. */
function namesOf(clean: string): string[] { return clean.split('/').filter(part => part !== '' && part !== '.' && part !== '..') }

function joined(directory: string, name: string): string { return directory === '.' ? name : directory.endsWith('/') ? directory + name : `${directory}/${name}` }

/** As Go's filepath.Clean. */
export function cleanPath(path: string): string {
  const absolute = path.startsWith('/')
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.length > 0 && parts[parts.length - 1] !== '..') parts.pop()
    else if (!absolute) parts.push(part)
  }
  return (absolute ? '/' : '') + parts.join('/') || '.'
}
