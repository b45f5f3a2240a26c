import { createHash, createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { DaybookError } from '../../errors.js'

/** A host key that somebody once found to be right, or wrong (@revoked). */
export interface KnownKey {
  /** ssh-ed25519, ... */
  readonly type: string
  readonly blob: Buffer
  readonly revoked: boolean
  readonly file: string
  /** from 1 */
  readonly line: number
}

/** What the files say about a host; a file that is not there says nothing. @param host as in known_hosts: `host` or `[host]:port` */
export function knownKeys(files: readonly string[], host: string): KnownKey[] {
  return files.flatMap(file => parseKnownHosts(readIfThere(file), host, file))
}

/** Keys of one host: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Certificate authorities are left out, lines that make no sense as well, as ssh does. */
export function parseKnownHosts(text: string, host: string, file = 'known_hosts'): KnownKey[] {
  const keys: KnownKey[] = []
  for (const [position, line] of text.split('\n').entries()) {
    const words = line.trim().split(/\s+/)
    const mark = words[0].startsWith('@') ? words.shift()! : ''
    const [names, type, key] = words
    if (key === undefined || names.startsWith('#') || mark !== '' && mark !== '@revoked' || !matches(names, host)) continue
    keys.push({ type, blob: Buffer.from(key, 'base64'), revoked: mark !== '', file, line: position + 1 })
  }
  return keys
}

/** As ssh-keygen prints it. */
export function fingerprint(blob: Buffer): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

function matches(names: string, host: string): boolean {
  if (names.startsWith('|1|')) {
    const [, , salt, hash] = names.split('|')
    return hash !== undefined && createHmac('sha1', Buffer.from(salt, 'base64')).update(host).digest('base64') === hash
  }
  let found = false
  for (const pattern of names.toLowerCase().split(',')) {
    if (pattern.startsWith('!') && matchesPattern(pattern.slice(1), host)) return false
    found ||= matchesPattern(pattern, host)
  }
  return found
}

function matchesPattern(pattern: string, host: string): boolean {
  if (!/[*?]/.test(pattern)) return pattern === host
  return new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.')}$`).test(host)
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return ''
    throw new DaybookError('ERR_USAGE', `cannot read the known hosts in ${file} (${code})`, undefined, { cause })
  }
}
