import { closeSync, readFileSync } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { commandOutput, standardInput } from '../archiver/stream-source.js'
import { addNamedTarget, streamTarget, targetsOf, type TargetDirectory } from '../archiver/targets.js'
import { DaybookError } from '../errors.js'
import { native } from '../native.js'
import { glob } from './glob.js'
import type { BackupCommandOptions } from './backup-options.js'

/** What is to be saved. */
export interface Targets {
  /** as the snapshot names them: absolute */
  readonly paths: readonly string[]
  readonly tree: () => Promise<TargetDirectory>
  /** contents come from standard input or a command: there is nothing to compare with */
  readonly fromStream: boolean
}

/** Contents out of standard input or of a command, as one file. @throws DaybookError ERR_USAGE */
function streamOf(options: BackupCommandOptions, args: readonly string[], timeMs: number): Targets {
  const lists = [options.filesFrom, options.filesFromVerbatim, options.filesFromRaw, options.setPath].some(list => list !== undefined)
  if (lists || options.stdin && options.stdinFromCommand) throw new DaybookError('ERR_USAGE', '--stdin and --stdin-from-command save one file, and nothing else')
  if (options.stdin && args.length > 0) throw new DaybookError('ERR_USAGE', 'with --stdin no paths can be named')
  if (options.stdinFromCommand && args.length === 0) throw new DaybookError('ERR_USAGE', '--stdin-from-command needs a command', 'daybook backup --stdin-from-command -- COMMAND ARGUMENT...')
  const path = resolve('/', options.stdinFilename)
  const source = options.stdin ? standardInput(path) : commandOutput(path, args, () => native.pipe(), closeSync)
  return { paths: [path], fromStream: options.stdin ?? false, tree: async () => streamTarget(source, timeMs) }
}

/** @param report what was named and is not there @throws DaybookError ERR_USAGE if nothing is left */
export async function collectTargets(options: BackupCommandOptions, args: readonly string[], timeMs: number, report: (error: Error) => void): Promise<Targets> {
  if (options.stdin || options.stdinFromCommand) return streamOf(options, args, timeMs)
  const named = (options.setPath ?? []).map(text => {
    const equals = text.indexOf('=')
    if (equals < 1 || equals === text.length - 1) throw new DaybookError('ERR_USAGE', `--set-path ${text}: not NAME=PATH`, 'example: --set-path files=/home/alice')
    return { name: text.slice(0, equals), path: text.slice(equals + 1) }
  })
  const given = [...await fromFiles(options, report), ...args.map(path => Buffer.from(path))]
  if (given.length + named.length === 0) throw new DaybookError('ERR_USAGE', 'there is nothing to save', 'name the files and directories: daybook backup PATH...')
  const found: Buffer[] = []
  for (const path of given) if (await isThere(path, report)) found.push(path)
  const foundNamed: typeof named = []
  for (const item of named) if (await isThere(Buffer.from(item.path), report)) foundNamed.push(item)
  if (found.length + foundNamed.length === 0) throw new DaybookError('ERR_USAGE', 'nothing of what is to be saved exists')
  const list = async (path: Buffer) => (await readdir(path, { encoding: 'buffer' })) as unknown as Buffer[]
  return {
    paths: foundNamed.length === 0 ? found.map(path => resolve(path.toString())) : [...found.map(path => resolve(path.toString())), ...foundNamed.map(({ name }) => resolve('/', name))],
    fromStream: false,
    tree: async () => {
      const tree = await targetsOf(found, list)
      for (const { name, path } of foundNamed) addNamedTarget(tree, name, Buffer.from(resolve(path)))
      return tree
    },
  }
}

async function isThere(path: Buffer, report: (error: Error) => void): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    report(error as Error)
    return false
  }
}

async function fromFiles(options: BackupCommandOptions, report: (error: Error) => void): Promise<Buffer[]> {
  const paths: Buffer[] = []
  for (const file of options.filesFrom ?? []) {
    for (const line of lines(file, '\n')) {
      const pattern = line.toString('latin1').trim()
      if (pattern === '' || pattern.startsWith('#')) continue
      const found = await glob(pattern)
      if (found.length === 0) report(new Error(`${Buffer.from(pattern, 'latin1').toString()} does not match any file`))
      paths.push(...found.map(path => Buffer.from(path, 'latin1')))
    }
  }
  for (const file of options.filesFromVerbatim ?? []) paths.push(...lines(file, '\n').map(line => line[line.length - 1] === 0x0d ? line.subarray(0, -1) : line).filter(line => line.length > 0))
  for (const file of options.filesFromRaw ?? []) {
    const names = lines(file, '\0')
    if (names.some(name => name.length === 0)) throw new DaybookError('ERR_USAGE', `--files-from-raw ${file}: an empty name`)
    paths.push(...names)
  }
  return paths
}

function lines(file: string, end: '\n' | '\0'): Buffer[] {
  let bytes: Buffer
  try {
    bytes = readFileSync(file === '-' ? 0 : file)
  } catch (error) {
    throw new DaybookError('ERR_USAGE', `cannot read the list ${file}: ${(error as Error).message}`)
  }
  const found: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const next = bytes.indexOf(end, at)
    if (next < 0 && end === '\0') throw new DaybookError('ERR_USAGE', `--files-from-raw ${file}: the last name does not end with a NUL byte`)
    found.push(bytes.subarray(at, next < 0 ? bytes.length : next))
    at = next < 0 ? bytes.length : next + 1
  }
  return found
}
