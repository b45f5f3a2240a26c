import { DaybookError } from '../errors.js'
import { TreeRows } from '../format/tree-rows.js'
import type { TreeSource } from '../fs/sources.js'
import { native } from '../native.js'
import { TreeLoader } from '../repository/tree-loader.js'
import { EXIT } from './exit-codes.js'
import { snapshotFilter } from './filters.js'
import type { FilterOptions, GlobalOptions } from './global-options.js'
import { jsonNode, longLine, type Node } from './ls-format.js'
import { namedSnapshots, openReader, type NamedSnapshot, type Reader } from './open-reader.js'
import { Output } from './output.js'
import { printableName } from './printable.js'

export interface LsCommandOptions extends GlobalOptions, FilterOptions {
  long?: boolean
  recursive?: boolean
  null?: boolean
}

/** List a directory of a snapshot, or show one file. Directories that cannot be read are reported and left out; then the exit code is 1. */
export async function lsCommand(options: LsCommandOptions, target: string): Promise<number> {
  if (options.json && options.null) throw new DaybookError('ERR_USAGE', '--json and --null exclude one another')
  const { name, parts } = parseTarget(target)
  const filter = snapshotFilter(options)
  const reader = await openReader(options)
  const abort = new AbortController()
  try {
    const found = findSnapshot(await namedSnapshots(reader, filter), name)
    await loadIndex(reader)
    const { repository: { backend, keys }, index, sync, log } = reader
    const refresh = async () => (await sync.refresh()).changed
    const trees = new TreeLoader({ backend, keys, index, native, refresh, log, signal: abort.signal })
    const output = new Output()
    const failures = await list(trees, found, parts, printer(options, output), options.recursive ?? false, path => reader.log.warn(`cannot read ${printableName(path)}`))
    output.flush()
    await trees.close()
    return failures === 0 ? EXIT.ok : EXIT.failure
  } finally {
    abort.abort()
    await reader.close()
  }
}

/** Names of days and ids hold no colon; what follows the first one is the path. */
export function parseTarget(target: string): { name: string, parts: Buffer[] } {
  const colon = target.indexOf(':')
  const path = colon < 0 ? '' : target.slice(colon + 1)
  return { name: colon < 0 ? target : target.slice(0, colon), parts: path.split('/').filter(part => part !== '' && part !== '.').map(part => Buffer.from(part)) }
}

/** By the name of its day (or host/day), else 'latest', else the beginning of its id. @throws DaybookError ERR_USAGE */
export function findSnapshot(all: readonly NamedSnapshot[], name: string): NamedSnapshot {
  const hint = 'see which there are with: daybook snapshots'
  const found = name === 'latest' ? all.slice(-1)
    : firstNotEmpty(all.filter(({ day }) => day === name || day.endsWith(`/${name}`)), name === '' ? [] : all.filter(({ snapshot }) => snapshot.id.startsWith(name.toLowerCase())))
  if (found.length === 1) return found[0]
  if (found.length === 0) throw new DaybookError('ERR_USAGE', name === 'latest' ? 'no snapshot matches' : `no snapshot ${name}`, hint)
  throw new DaybookError('ERR_USAGE', `${found.length} snapshots are meant by ${name}: ${found.slice(0, 3).map(({ snapshot, day }) => `${day} (${snapshot.id.slice(0, 8)})`).join(', ')}`,
    'name the host with --host, or give more of the id')
}

function firstNotEmpty<T>(a: T[], b: T[]): T[] { return a.length > 0 ? a : b }

/** How often a person is told how far it is. */
const LOOK_MS = 500

async function loadIndex({ repository, index, sync, progress }: Reader): Promise<void> {
  const loading = sync.syncIndexFiles()
  const files = process.stderr.isTTY ? (await repository.list('index').catch(() => [])).length : 0
  const timer = files > 0 ? setInterval(() => progress.update('loading index', index.indexFiles().size, files), LOOK_MS) : null
  try { await loading } finally {
    if (timer !== null) clearInterval(timer)
    progress.done()
  }
}

type Print = (node: Node) => void

function printer({ json, long, recursive, null: nul }: LsCommandOptions, output: Output): Print {
  if (json) return node => output.write(JSON.stringify(jsonNode(node)) + '\n')
  const raw = nul || !process.stdout.isTTY
  const show = (bytes: Buffer) => raw ? bytes : Buffer.from(printableName(bytes))
  const end = Buffer.from(nul ? '\0' : '\n')
  const label = ({ path, name }: Node) => show(recursive ? path : name)
  return node => output.write(Buffer.concat([long ? longLine(node, label(node), show) : label(node), end]))
}

/** @returns how many directories could not be read */
async function list(trees: TreeSource, { snapshot }: NamedSnapshot, parts: Buffer[], print: Print, recursive: boolean, failed: (path: Buffer) => void): Promise<number> {
  let rows = await rowsOf(trees, snapshot.tree)
  if (rows.replacement !== null) rows = await rowsOf(trees, rows.replacement)
  let path = Buffer.alloc(0)
  for (const [depth, name] of parts.entries()) {
    const position = rows.find(name)
    const shown = `/${parts.slice(0, depth + 1).map(printableName).join('/')}`
    if (position < 0) throw new DaybookError('ERR_USAGE', `snapshot ${snapshot.id.slice(0, 8)} has no ${shown}`)
    path = join(path, name)
    if (!rows.isDirectory(position)) {
      if (depth < parts.length - 1) throw new DaybookError('ERR_USAGE', `${shown} is not a directory`)
      print({ rows, position, path, name })
      return 0
    }
    rows = await subtreeOf(trees, rows, position, shown)
  }
  let failures = 0
  const walk = async (rows: TreeRows, path: Buffer): Promise<void> => {
    for (let position = 0; position < rows.count; position++) {
      const name = rows.name(position)
      const below = join(path, name)
      print({ rows, position, path: below, name })
      if (!recursive || !rows.isDirectory(position)) continue
      const inner = await subtreeOf(trees, rows, position, '').catch(() => null)
      if (inner !== null) await walk(inner, below)
      else { failures++; failed(below) }
    }
  }
  await walk(rows, path)
  return failures
}

async function rowsOf(trees: TreeSource, id: Uint8Array): Promise<TreeRows> { return new TreeRows(trees.peek(id) ?? await trees.load(id)) }

async function subtreeOf(trees: TreeSource, rows: TreeRows, position: number, shown: string): Promise<TreeRows> {
  const id = rows.subtree(position)
  if (id === null) throw new DaybookError('ERR_NOT_FOUND', `the backup holds nothing of ${shown}: it could not be read then`)
  return rowsOf(trees, id)
}

const SLASH = Buffer.from('/')
function join(path: Buffer, name: Buffer): Buffer<ArrayBuffer> { return Buffer.concat([path, SLASH, name]) }
