import t from 'tap'
import { addNamedTarget, cleanPath, targetsOf, type TargetDirectory } from '../../src/archiver/targets.js'

const LISTS: Record<string, string[]> = { '.': ['a', 'b'], '..': ['up'], '/': ['etc', 'usr'], '/home': ['alice', 'bob'], '/home/alice': ['docs', 'mail'] }
const list = async (path: Buffer) => (LISTS[path.toString()] ?? []).map(name => Buffer.from(name))

/** name -> path, with ! where it was named; directories on the way as objects with their own path under '' */
function shape({ entries }: TargetDirectory): Record<string, unknown> {
  return Object.fromEntries([...entries].map(([name, entry]) => [name, entry.kind === 'path' ? `${entry.path}${entry.explicit ? '!' : ''}` : entry.kind === 'stream' ? 'stream' : { '': entry.path?.toString() ?? null, ...shape(entry) }]))
}

t.test('paths become the tree that restic makes of them', async t => {
  for (const [paths, expected] of [
    [['/home/alice'], { home: { '': '/home', alice: '/home/alice!' } }],
    [['/usr', '/etc/passwd'], { usr: '/usr!', etc: { '': '/etc', passwd: '/etc/passwd!' } }],
    [['docs'], { docs: 'docs!' }],
    [['./docs/', 'docs'], { docs: 'docs!' }],
    [['docs/x/../y'], { docs: { '': 'docs', y: 'docs/y!' } }],
    [['../docs'], { docs: '../docs!' }],
    [['docs', '../docs'], { docs: 'docs!', 'docs-1': '../docs!' }],
    [['.'], { a: 'a', b: 'b' }],
    [['..'], { up: '../up' }],
    [['/'], { etc: '/etc', usr: '/usr' }],
    [['/home', '/home/alice'], { home: { '': '/home', alice: '/home/alice!', bob: '/home/bob' } }],
    [['/home/alice', '/home'], { home: { '': '/home', alice: '/home/alice!', bob: '/home/bob' } }],
    [['/home', '/home/alice/docs'], { home: { '': '/home', alice: { '': '/home/alice', docs: '/home/alice/docs!', mail: '/home/alice/mail' }, bob: '/home/bob' } }],
  ] as const) t.strictSame(shape(await targetsOf(paths.map(path => Buffer.from(path)), list)), expected, paths.join(' '))
})

t.test('a path under a name of its own', async t => {
  const tree = await targetsOf([], list)
  addNamedTarget(tree, 'files', Buffer.from('/home/alice'))
  addNamedTarget(tree, 'mails/a.example/info', Buffer.from('/var/mail/1'))
  t.strictSame(shape(tree), { files: '/home/alice!', mails: { '': null, 'a.example': { '': null, info: '/var/mail/1!' } } })
  for (const name of ['files', 'files/below', '/', '..']) t.throws(() => addNamedTarget(tree, name, Buffer.from('/x')), { code: 'ERR_USAGE' }, name)
})

t.test('paths are cleaned as Go does', async t => {
  for (const [path, clean] of [['', '.'], ['.', '.'], ['a/..', '.'], ['/..', '/'], ['/../a', '/a'], ['../..', '../..'], ['../a/../b', '../b'], ['a//b/', 'a/b']]) t.equal(cleanPath(path!), clean, path)
})
