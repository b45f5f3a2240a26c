import { readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { decodeName, PatternList } from '../archiver/pattern.js'
import type { Selection } from '../archiver/selection.js'
import { DaybookError } from '../errors.js'
import type { BackupCommandOptions } from './backup-options.js'
import { parseSize } from './values.js'

/** Who keeps a cache marks it so: bford.info/cachedir */
const CACHE_MARKER = 'CACHEDIR.TAG:Signature: 8a477f597d28d172789f06886806bc55'

/** What --exclude and its like say. `excludes`: what the snapshot notes of it. @throws DaybookError ERR_USAGE */
export async function backupSelection(options: BackupCommandOptions): Promise<{ selection: Selection, excludes: string[] }> {
  const excludes = [...options.exclude ?? [], ...(options.excludeFile ?? []).flatMap(patternsOf)]
  const insensitive = [...options.iexclude ?? [], ...(options.iexcludeFile ?? []).flatMap(patternsOf)]
  const lists = [new PatternList(excludes), new PatternList(insensitive, true)].filter(list => !list.empty)
  const markers = [...options.excludeIfPresent ?? [], ...options.excludeCaches ? [CACHE_MARKER] : []].map(parseMarker)
  const largest = options.excludeLargerThan === undefined ? null : parseSize('--exclude-larger-than', options.excludeLargerThan)
  return {
    excludes: options.exclude ?? [],
    selection: {
      ...lists.length > 0 && { excludesPath: (path: Buffer) => {
        const text = decodeName(path)
        return lists.some(list => list.matches(text))
      } },
      ...largest !== null && { excludesEntry: (_path: Buffer, directory: boolean, size: number) => !directory && size > largest },
      ...markers.length > 0 && { marker: async (path: Buffer, has: (name: Buffer) => boolean) => {
        for (const { name, header } of markers) if (has(name) && await beginsWith(Buffer.concat([path, Buffer.from('/'), name]), header)) return name
        return null
      } },
      oneFileSystem: options.oneFileSystem,
    },
  }
}

/** Lines of a file: comments and empty lines left out, $VARIABLE and ${VARIABLE} replaced, $$ for a dollar. */
function patternsOf(file: string): string[] {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new DaybookError('ERR_USAGE', `cannot read the patterns in ${file}: ${(error as Error).message}`)
  }
  return text.replace(/^\ufeff/, '').split('\n').map(line => line.trim()).filter(line => line !== '' && !line.startsWith('#'))
    .map(line => line.replace(/\$(\$|\w+|\{[^}]*\})/g, (_, name: string) => name === '$' ? '$' : process.env[name.replace(/^\{|\}$/g, '')] ?? ''))
}

function parseMarker(text: string): { name: Buffer, header: Buffer } {
  const colon = text.indexOf(':')
  const name = colon < 0 ? text : text.slice(0, colon)
  if (name === '') throw new DaybookError('ERR_USAGE', `--exclude-if-present ${text}: no name`, 'NAME, or NAME:HOW-IT-BEGINS')
  return { name: Buffer.from(name), header: Buffer.from(colon < 0 ? '' : text.slice(colon + 1)) }
}

async function beginsWith(path: Buffer, header: Buffer): Promise<boolean> {
  if (header.length === 0) return true
  try {
    const file = await open(path, 'r')
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(header.length), 0, header.length, 0)
      return bytesRead === header.length && buffer.equals(header)
    } finally {
      await file.close()
    }
  } catch {
    return false
  }
}
