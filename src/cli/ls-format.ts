import type { TreeRows } from '../format/tree-rows.js'
import { exactTime, localFileTime } from './times.js'

/** One line of a listing. */
export interface Node {
  readonly rows: TreeRows
  readonly position: number
  /** from the snapshot's root, beginning with '/' */
  readonly path: Buffer
  readonly name: Buffer
}

const S_IFMT = 0o170000

/** By st_mode; letter as `ls -l` shows it, name as restic's JSON calls it. */
const TYPES: Readonly<Record<number, { letter: string, name: string }>> = {
  0o140000: { letter: 's', name: 'socket' },
  0o120000: { letter: 'l', name: 'symlink' },
  0o100000: { letter: '-', name: 'file' },
  0o060000: { letter: 'b', name: 'dev' },
  0o040000: { letter: 'd', name: 'dir' },
  0o020000: { letter: 'c', name: 'chardev' },
  0o010000: { letter: 'p', name: 'fifo' },
}

function typeOf(mode: number): { letter: string, name: string } { return TYPES[mode & S_IFMT] ?? { letter: '?', name: 'irregular' } }

/** "-rwsr-x--t" */
export function permissions(mode: number): string {
  const triple = (shift: number, special: number, letter: string) => {
    const bits = mode >> shift & 7
    const x = (mode & special) !== 0 ? (bits & 1) !== 0 ? letter : letter.toUpperCase() : (bits & 1) !== 0 ? 'x' : '-'
    return `${(bits & 4) !== 0 ? 'r' : '-'}${(bits & 2) !== 0 ? 'w' : '-'}${x}`
  }
  return typeOf(mode).letter + triple(6, 0o4000, 's') + triple(3, 0o2000, 's') + triple(0, 0o1000, 't')
}

/** As `ls -ln`; `label` is the name or path as it is to be printed. */
export function longLine({ rows, position }: Node, label: Buffer, show: (bytes: Buffer) => Buffer): Buffer {
  const mode = rows.mode(position)
  const { letter } = typeOf(mode)
  const { major, minor } = rows.rdev(position)
  const size = letter === 'b' || letter === 'c' ? `${major}, ${minor}` : String(rows.size(position))
  const fields = [permissions(mode), String(rows.nlink(position)).padStart(3), String(rows.uid(position)).padStart(5), String(rows.gid(position)).padStart(5),
    size.padStart(12), localFileTime(rows.mtime(position))]
  const target = letter === 'l' ? [Buffer.from(' -> '), show(rows.target(position))] : []
  return Buffer.concat([Buffer.from(`${fields.join(' ')} `), label, ...target])
}

/** Fields as `restic ls --json` names them; `st_mode` is the number of stat(2) (restic's `mode` is Go's, which nothing else knows). */
export function jsonNode({ rows, position, path, name }: Node): object {
  const mode = rows.mode(position)
  const { letter, name: type } = typeOf(mode)
  return {
    message_type: 'node', ...text('name', name), type, ...text('path', path), uid: rows.uid(position), gid: rows.gid(position),
    size: letter === '-' ? rows.size(position) : undefined, st_mode: mode, permissions: permissions(mode), links: rows.nlink(position),
    mtime: exactTime(rows.mtime(position)), atime: exactTime(rows.atime(position)), ctime: exactTime(rows.ctime(position)),
    ...letter === 'l' ? text('linktarget', rows.target(position)) : {},
    ...letter === 'b' || letter === 'c' ? { device: rows.rdev(position) } : {},
    damaged: rows.isDamaged(position) || undefined,
  }
}

/** A field, and its bytes beside it where they are not UTF-8. */
function text(field: string, bytes: Buffer): Record<string, string> {
  const value = bytes.toString('utf8')
  return Buffer.from(value).equals(bytes) ? { [field]: value } : { [field]: value, [`${field}_base64`]: bytes.toString('base64') }
}
