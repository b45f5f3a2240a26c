import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const SRC = join(dirname(fileURLToPath(import.meta.url)), '../../src')

const PURE = ['errors', 'util', 'native']
const VERBS = ['archiver', 'restore', 'retention', 'check']

/**
 * What each folder of src/ may import besides itself: the arrows of README.md ("How it is built"), skipping levels downward.
 * A name with a slash is one file, whose types alone may be imported: a seam that a higher layer declares and a lower one fills, or a value passed on unread.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  errors: [],
  native: [],
  util: ['errors'],
  format: PURE,
  chunker: PURE,
  crypto: ['format', ...PURE],
  backend: ['errors', 'util'],
  'backend/open-files.ts': ['native', 'errors', 'util'],
  cache: ['backend', 'format', ...PURE],
  index: ['format', ...PURE],
  repository: ['index', 'cache', 'backend', 'crypto', 'chunker', 'format', 'fs/sources', ...PURE],
  restore: ['repository', 'format', ...PURE],
  retention: ['repository', 'format', ...PURE],
  check: ['repository', 'format', ...PURE],
  archiver: ['repository', 'index/index', 'crypto', 'chunker', 'format', ...PURE],
  fs: ['format', ...PURE],
  fuse: ['fs', 'format', ...PURE],
  mount: ['fuse', 'fs', 'backend/location', 'backend/options', 'cache/open-cached', 'format', ...PURE],
  // Where a stored repository and a tree meet, and what opens the one before the other is loaded; the rest of the folder only knows the tree.
  'mount/serve.ts': ['fuse', 'fs', 'repository', 'index', 'backend', 'cache/open-cached', 'format', ...PURE],
  'mount/opening.ts': ['repository', 'cache', 'backend', ...PURE],
  cli: ['mount', 'fuse', 'fs', ...VERBS, 'repository', 'index', 'cache', 'backend', 'crypto', 'format', ...PURE],
}

interface Import { readonly from: string, readonly to: string, readonly typesOnly: boolean }

function importsOf(file: string): Import[] {
  const text = readFileSync(join(SRC, file), 'utf8')
  const found: Import[] = []
  // Statements (import, export ... from), dynamic imports, and the URLs that worker threads are started from.
  const patterns = [/^\s*(import|export)\s+(type\s)?[^'";]*?from\s+'(\.[^']+)'/gm, /\b(import)()\s*\(?\s*'(\.[^']+)'/g, /new (URL)()\('(\.[^']+\.js)', import\.meta\.url\)/g]
  for (const pattern of patterns) {
    for (const [, , type, path] of text.matchAll(pattern)) {
      found.push({ from: file, to: relative(SRC, join(SRC, dirname(file), path)).replace(/\.js$/, ''), typesOnly: type !== undefined && type !== '' })
    }
  }
  return found
}

/** The folder of a path below src/, or the name of a file at its top. */
const layerOf = (path: string) => path.split('/')[0].replace(/\.ts$/, '')

function violation({ from, to, typesOnly }: Import): string | null {
  const source = layerOf(from)
  const target = layerOf(to)
  if (to.startsWith('..')) return `${from} imports ${to}, outside src/`
  const allowed = MAY_IMPORT[from] ?? MAY_IMPORT[source]
  if (source === target || allowed.includes(target)) return null
  if (allowed.includes(to)) return typesOnly ? null : `${from} imports more than types from ${to}`
  return `${from} imports ${to}: ${source} must not know ${target}`
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'))
const imports = files.flatMap(importsOf)

t.test('every folder of src/ has its place among the layers', async t => {
  t.ok(files.length > 10, 'sources were found')
  t.strictSame([...new Set(files.map(layerOf))].filter(layer => !(layer in MAY_IMPORT)), [])
})

t.test('no import points up', async t => {
  t.ok(imports.length > 10, 'imports were found')
  t.strictSame(imports.filter(({ from }) => layerOf(from) in MAY_IMPORT).map(violation).filter(line => line !== null), [])
})

t.test('the rule notices', async t => {
  for (const [name, found] of Object.entries<Import>({
    'an arrow that points up': { from: 'fs/file-system.ts', to: 'fuse/session', typesOnly: true },
    'the tree knowing its storage': { from: 'fs/file-system.ts', to: 'index/index', typesOnly: true },
    'a backend knowing the format': { from: 'backend/local.ts', to: 'format/limits', typesOnly: false },
    'code taken through a seam of types': { from: 'repository/tree-loader.ts', to: 'fs/sources', typesOnly: false },
    'an import from outside': { from: 'cli/main.ts', to: '../test/fixtures/tiers', typesOnly: false },
  })) t.type(violation(found), 'string', name)
  t.equal(violation({ from: 'cli/main.ts', to: 'util/log', typesOnly: false }), null, 'skipping levels downward is allowed')
})

t.test('the mutual arrows of the table are none', async t => {
  for (const [layer, targets] of Object.entries(MAY_IMPORT)) {
    for (const target of targets) t.notOk(MAY_IMPORT[target]?.includes(layer), `${layer} -> ${target} has no way back`)
  }
})
