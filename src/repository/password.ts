import { spawn } from 'node:child_process'
import { DaybookError } from '../errors.js'
import { abortedError } from '../util/abort.js'
import { splitCommand } from '../util/split-command.js'
import { readTextFile, trimSpace } from './text-file.js'

/** restic's flags for where a repository is and what opens it. */
export interface AccessFlags {
  /** -r, --repo */
  repo?: string
  repositoryFile?: string
  passwordFile?: string
  passwordCommand?: string
  keyHint?: string
  insecureNoPassword?: boolean
}
export type Environment = Readonly<Record<string, string | undefined>>

/** A flag replaces the variable of the same meaning, and no other; an empty variable is none. */
export function withEnvironment(flags: AccessFlags, env: Environment): AccessFlags {
  return {
    repo: flags.repo ?? env.RESTIC_REPOSITORY ?? '',
    repositoryFile: flags.repositoryFile ?? env.RESTIC_REPOSITORY_FILE ?? '',
    passwordFile: flags.passwordFile ?? env.RESTIC_PASSWORD_FILE ?? '',
    passwordCommand: flags.passwordCommand ?? env.RESTIC_PASSWORD_COMMAND ?? '',
    keyHint: flags.keyHint ?? env.RESTIC_KEY_HINT ?? '',
    insecureNoPassword: flags.insecureNoPassword ?? false,
  }
}

/** The location as text, for parseLocation(). @throws DaybookError ERR_USAGE */
export async function resolveLocation(flags: AccessFlags, env: Environment = process.env): Promise<string> {
  const { repo, repositoryFile } = withEnvironment(flags, env)
  if (repo && repositoryFile) {
    throw new DaybookError('ERR_USAGE', 'the repository is given twice', 'give either -r (RESTIC_REPOSITORY) or --repository-file (RESTIC_REPOSITORY_FILE)')
  }
  if (repo) return repo
  if (!repositoryFile) throw new DaybookError('ERR_USAGE', 'no repository is given', 'give it with -r, --repository-file, RESTIC_REPOSITORY or RESTIC_REPOSITORY_FILE')
  const text = (await readTextFile('repository file', repositoryFile)).toString('utf8')
  if (text === '') throw new DaybookError('ERR_USAGE', `repository file ${repositoryFile} is empty`)
  return text
}

/**
 * The password from where flags and environment say: a command, else a file, else RESTIC_PASSWORD (taken as it is), in restic's order.
 * @returns null if none says anything: then a person is to be asked. No error message holds a password.
 * @throws DaybookError ERR_USAGE
 */
export async function resolvePassword(flags: AccessFlags, env: Environment = process.env, options: { signal?: AbortSignal } = {}): Promise<Buffer | null> {
  const { passwordFile, passwordCommand, insecureNoPassword } = withEnvironment(flags, env)
  if (passwordFile && passwordCommand) {
    throw new DaybookError('ERR_USAGE', 'the password is given twice',
      'give either --password-file (RESTIC_PASSWORD_FILE) or --password-command (RESTIC_PASSWORD_COMMAND)')
  }
  const password = passwordCommand ? await runPasswordCommand(passwordCommand, options.signal)
    : passwordFile ? await readTextFile('password file', passwordFile)
    : Buffer.from(env.RESTIC_PASSWORD ?? '')
  if (!insecureNoPassword) return password.length > 0 ? password : null
  if (password.length > 0) throw new DaybookError('ERR_USAGE', 'a password is given together with --insecure-no-password', 'leave one of them out')
  return Buffer.alloc(0)
}

/** Standard output of a command, without white space around it. Its standard error is ours, so that it can ask and complain. */
async function runPasswordCommand(command: string, signal: AbortSignal | undefined): Promise<Buffer> {
  const [program, ...words] = splitCommand('password command', command)
  return new Promise((resolve, reject) => {
    const fail = (fact: string, cause?: unknown) => reject(new DaybookError('ERR_USAGE', `password command ${program} ${fact}`, undefined, { cause }))
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'], signal })
    const chunks: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.on('error', error => signal?.aborted ? reject(abortedError(signal)) : fail((error as NodeJS.ErrnoException).code === 'ENOENT' ? 'does not exist' : `cannot be run: ${(error as NodeJS.ErrnoException).code}`, error))
    child.on('close', (code, killer) => {
      if (code === 0) resolve(trimSpace(Buffer.concat(chunks)))
      else fail(killer ? `was ended by ${killer}` : `failed with exit code ${code}`)
    })
  })
}
