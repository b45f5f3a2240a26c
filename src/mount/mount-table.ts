import { readFileSync } from 'node:fs'

/** One line of /proc/self/mountinfo. Names are bytes as the kernel has them, its octal escapes undone. */
export interface MountEntry {
  readonly id: number
  readonly parent: number
  readonly device: { readonly major: number, readonly minor: number }
  /** absolute path, symlinks resolved */
  readonly mountpoint: Buffer
  /** ext4, fuse.daybook, ... */
  readonly type: string
  readonly source: Buffer
  /** of the file system (not of this one mount): user_id=..., allow_other, ... */
  readonly superOptions: readonly string[]
}

/** Every mount this process can see. Reading it never touches the mounted file systems, so it cannot hang on a dead one. */
export function readMountTable(): MountEntry[] {
  return parseMountTable(readFileSync('/proc/self/mountinfo'))
}

/**
 * Lines of "id parent major:minor root mountpoint options [optional fields] - type source super-options" (proc(5)).
 * Lines that do not look like that are left out.
 */
export function parseMountTable(bytes: Buffer): MountEntry[] {
  const entries: MountEntry[] = []
  // latin1 keeps every byte as one character, so that splitting and unescaping cannot damage a name.
  for (const line of bytes.toString('latin1').split('\n')) {
    const [before, after] = splitAt(line, ' - ')
    const [id, parent, device, , mountpoint] = before.split(' ')
    const [type, source, superOptions] = after.split(' ')
    const [major, minor] = device?.split(':') ?? []
    if (mountpoint === undefined || source === undefined || minor === undefined) continue
    entries.push({
      id: Number(id), parent: Number(parent), device: { major: Number(major), minor: Number(minor) },
      mountpoint: unescapeOctal(mountpoint), type: unescapeOctal(type).toString('latin1'), source: unescapeOctal(source),
      superOptions: superOptions?.split(',') ?? [],
    })
  }
  return entries
}

/** What is mounted exactly at `path`: where mounts lie on top of one another, the one on top, which is the one seen. */
export function mountAt(table: readonly MountEntry[], path: string | Buffer): MountEntry | null {
  const bytes = Buffer.from(path as string)
  const here = table.filter(entry => entry.mountpoint.equals(bytes))
  const covered = new Set(here.map(entry => entry.parent))
  return here.findLast(entry => !covered.has(entry.id)) ?? here.at(-1) ?? null
}

/** 'fuse' is what a mount without subtype is called. */
export function isFuse(entry: MountEntry): boolean { return entry.type === 'fuse' || entry.type.startsWith('fuse.') }
export function isDaybook(entry: MountEntry): boolean { return entry.type === 'fuse.daybook' }

/** File systems with somebody else behind them, who may be gone: a plain stat(2) there can wait for ever. */
export function mayHang(entry: MountEntry): boolean {
  return isFuse(entry) || /^(fuseblk|nfs4?|cifs|smb3?|ceph|9p|afs|autofs|glusterfs|lustre|ncpfs|coda)$/.test(entry.type)
}

function splitAt(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + separator.length)]
}

function unescapeOctal(text: string): Buffer {
  return Buffer.from(text.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8))), 'latin1')
}
