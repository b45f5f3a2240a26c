import { lstat, readdir } from 'node:fs/promises'
import { decodeName, nameExpression } from '../archiver/pattern.js'

/** Paths that a pattern of --files-from matches, in order, as Go's filepath.Glob. Bytes as latin1, both ways. */
export async function glob(pattern: string): Promise<string[]> {
  const names = pattern.split('/')
  let found = [pattern.startsWith('/') ? '/' : '']
  for (const [i, name] of names.entries()) {
    if (name === '') continue
    const next: string[] = []
    for (const directory of found) {
      const text = decodeName(Buffer.from(name, 'latin1'))
      if (/[*?[\\]/.test(name)) {
        const expression = nameExpression(text)
        const entries = (await readdir(Buffer.from(directory || '.', 'latin1'), { encoding: 'buffer' }).catch(() => [])) as unknown as Buffer[]
        const matching = entries.filter(entry => expression.test(decodeName(entry))).map(entry => entry.toString('latin1'))
        next.push(...matching.sort((a, b) => a < b ? -1 : 1).map(entry => directory + entry))
      } else next.push(directory + name)
    }
    found = i < names.length - 1 ? next.map(path => `${path}/`) : next
  }
  const there = await Promise.all(found.map(path => lstat(Buffer.from(path, 'latin1')).then(() => true, () => false)))
  return found.filter((path, i) => path !== '' && there[i])
}
