import { chmodSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

// Not with `recursive`: Node 20 tries for ever where a parent exists and making something in it fails with ENOENT (/proc, autofs).
/** Make a directory and those above it, for us alone; one that is there stays as it is. @throws errors of node:fs */
export function makeDirectory(path: string): void {
  const make = () => {
    try { mkdirSync(path, { mode: 0o700 }) } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
  try { make() } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw error
    makeDirectory(dirname(path))
    make()
  }
}

/** The same, and nobody but we may look into it. @throws errors of node:fs, EPERM if somebody else owns what is there */
export function ownDirectory(path: string): void {
  makeDirectory(path)
  const { uid, mode } = lstatSync(path)
  if ((mode & 0o170000) !== 0o040000) throw Object.assign(new Error(`${path} is not a directory`), { code: 'ENOTDIR' })
  // Who owns the folder could show us whatever he likes.
  if (uid !== process.geteuid!()) throw Object.assign(new Error(`${path} belongs to uid ${uid}`), { code: 'EPERM' })
  if ((mode & 0o077) !== 0) chmodSync(path, 0o700)
}

// https://bford.info/cachedir/: backup programs leave such directories out.
export function tagCacheDirectory(cacheDir: string): void {
  try {
    writeFileSync(join(cacheDir, 'CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of daybook. It can be deleted at any time.\n',
      { flag: 'wx', mode: 0o600 })
  } catch {
    // There already, or a cache directory that lacks nothing but the tag.
  }
}
