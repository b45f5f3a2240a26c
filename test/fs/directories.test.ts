import t from 'tap'
import { Directories, VIRTUAL } from '../../src/fs/directories.js'
import { ROOT_INSTANCE } from '../../src/fs/node-id.js'
import { seeded } from '../fixtures/seeded.js'

/** Every directory has `width` children; each is named by its path, which is what its numbers must always mean. */
const width = 3
const inoOf = (path: string) => BigInt(path.length) * 1000n + BigInt([...path].reduce((sum, digit, i) => sum + (Number(digit) + 1) * 7 ** (i % 5), 0)) + 2n
const describe = (path: string) => (ordinal: number) => ({ position: ordinal, tree: 5, ino: inoOf(path + ordinal) })

t.test('a directory keeps its number while the kernel or a child holds it, whatever is forgotten around it', async t => {
  const { random, seed } = seeded()
  t.comment(`seed ${seed}`)
  const directories = new Directories(2n)
  const top = directories.pin(ROOT_INSTANCE, 5, inoOf(''))
  /** what the kernel holds: path -> [instance, references]; a child is held only while its parent is, as dentries pin their parents */
  const held = new Map<string, [number, number]>([['', [top, 1]]])
  for (let step = 0; step < 20_000; step++) {
    const paths = [...held.keys()]
    const path = paths[Math.floor(random() * paths.length)]
    if (random() < 0.55 && path.length < 12) {
      const [instance] = held.get(path)!
      const ordinal = Math.floor(random() * width)
      const child = directories.block(instance, width, describe(path)) + ordinal
      const known = held.get(path + ordinal)
      if (known !== undefined && known[0] !== child) return t.fail(`${path + ordinal} was ${known[0]} and is ${child} at step ${step}`)
      directories.reference(child)
      held.set(path + ordinal, [child, (known?.[1] ?? 0) + 1])
    } else if (path !== '' && !paths.some(other => other.length > path.length && other.startsWith(path))) {
      const [instance, references] = held.get(path)!
      const some = Math.max(1, Math.floor(random() * (references + 1)))
      directories.forget(instance, some)
      if (some === references) held.delete(path)
      else held.set(path, [instance, references - some])
    }
    if (step % 200 === 0) {
      const instances = new Set<number>()
      for (const [path, [instance]] of held) {
        if (directories.ino(instance) !== inoOf(path)) return t.fail(`${path} lost its number at step ${step}`)
        if (path !== '' && directories.ino(directories.parent(instance)) !== inoOf(path.slice(0, -1))) return t.fail(`${path} has another parent at step ${step}`)
        instances.add(instance)
      }
      if (instances.size !== held.size) return t.fail('two directories share a number')
    }
  }
  t.pass('20,000 steps')
})

t.test('the table does not grow with what was forgotten', async t => {
  const directories = new Directories(2n)
  const top = directories.pin(ROOT_INSTANCE, 5, 3n)
  const walk = () => {
    const base = directories.block(top, 100, ordinal => ({ position: ordinal, tree: 5, ino: BigInt(10 + ordinal) }))
    for (let i = 0; i < 100; i++) directories.reference(base + i)
    for (let i = 0; i < 100; i++) {
      const below = directories.block(base + i, 10, ordinal => ({ position: ordinal, tree: 5, ino: BigInt(1000 + ordinal) }))
      for (let k = 0; k < 10; k++) directories.reference(below + k)
      for (let k = 0; k < 10; k++) directories.forget(below + k, 1)
    }
    for (let i = 0; i < 100; i++) directories.forget(base + i, 1)
  }
  walk()
  const { length } = directories
  for (let i = 0; i < 50; i++) walk()
  t.equal(directories.length, length)
})

t.test('what a released snapshot left with the kernel goes on working, then goes', async t => {
  const directories = new Directories(2n)
  const day = directories.pin(ROOT_INSTANCE, 5, 3n)
  const child = directories.block(day, 1, () => ({ position: 0, tree: 6, ino: 4n }))
  directories.reference(child)
  directories.release(day)
  t.equal(directories.ino(child), 4n)
  t.equal(directories.parent(child), day)
  directories.forget(child, 1)
  t.notOk(directories.exists(child))
  t.notOk(directories.exists(day))
  t.ok(directories.exists(ROOT_INSTANCE))
  t.equal(directories.tree(ROOT_INSTANCE), VIRTUAL)
})
