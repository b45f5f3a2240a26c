import { hostname } from 'node:os'
import { DaybookError } from '../errors.js'
import { addKey, findKey, listKeys } from '../repository/key-files.js'
import { resolvePassword } from '../repository/password.js'
import { username } from '../util/username.js'
import { askNewPassword } from './ask-new-password.js'
import { EXIT } from './exit-codes.js'
import type { GlobalOptions } from './global-options.js'
import { openReader } from './open-reader.js'
import { openWriter, type Writer } from './open-writer.js'
import { Output } from './output.js'
import { printable } from './printable.js'
import { formatTable } from './table.js'
import { localTime } from './times.js'

export interface NewKeyOptions extends GlobalOptions {
  newPasswordFile?: string
  newInsecureNoPassword?: boolean
  user?: string
  host?: string
}

/** Who may open the repository. */
export async function keyListCommand(options: GlobalOptions): Promise<number> {
  const { repository: { backend, keyName }, log, close } = await openReader(options)
  try {
    const keys = (await listKeys(backend, error => log.warn(error.message))).map(({ name, username, hostname, created }) => {
      const ms = Date.parse(created)
      return { current: name === keyName, id: name, userName: username, hostName: hostname, created: Number.isNaN(ms) ? created : localTime(ms) }
    })
    print(options.json ? JSON.stringify(keys) + '\n'
      : formatTable([' ID', 'User', 'Host', 'Created'], keys.map(({ current, id, userName, hostName, created }) => [(current ? '*' : ' ') + id.slice(0, 8), userName, hostName, created].map(printable))))
    return EXIT.ok
  } finally { await close() }
}

/** One more password. */
export async function keyAddCommand(options: NewKeyOptions): Promise<number> {
  const password = await newPassword(options)
  return withLock(options, false, async ({ access }) => {
    const name = await addKey(access, password, { hostname: options.host ?? hostname(), username: options.user ?? username() })
    if (!options.quiet) print(`saved new key with ID ${name}\n`)
  }).finally(() => password.fill(0))
}

/** Another password instead of the one that opened the repository. The old key goes when the new one is proven. */
export async function keyPasswdCommand(options: NewKeyOptions): Promise<number> {
  const password = await newPassword(options)
  return withLock(options, true, async ({ access, reader: { repository: { keyName } } }) => {
    const name = await addKey(access, password, { hostname: options.host ?? hostname(), username: options.user ?? username() })
    await access.backend.remove({ type: 'keys', name: keyName })
    if (!options.quiet) print(`saved new key as ${name}\n`)
  }).finally(() => password.fill(0))
}

export async function keyRemoveCommand(options: GlobalOptions, id: string): Promise<number> {
  return withLock(options, true, async ({ access, reader: { repository: { keyName } } }) => {
    const name = await findKey(access.backend, id)
    if (name === keyName) throw new DaybookError('ERR_USAGE', 'refusing to remove key currently used to access repository', 'open it with another password, or choose a new one with: daybook key passwd')
    await access.backend.remove({ type: 'keys', name })
    if (!options.quiet) print(`removed key ${name}\n`)
  })
}

async function newPassword({ newPasswordFile, newInsecureNoPassword }: NewKeyOptions): Promise<Buffer> {
  if (newPasswordFile !== undefined && newInsecureNoPassword) throw new DaybookError('ERR_USAGE', 'a new password is given together with --new-insecure-no-password', 'leave one of them out')
  const password = await resolvePassword({ passwordFile: newPasswordFile, insecureNoPassword: newInsecureNoPassword }, {})
  if (password !== null) return password
  if (newPasswordFile !== undefined) throw new DaybookError('ERR_USAGE', 'the new password is empty', 'a key without one is made with --new-insecure-no-password')
  return askNewPassword('enter new password: ')
}

async function withLock(options: GlobalOptions, exclusive: boolean, work: (writer: Writer) => Promise<void>): Promise<number> {
  const writer = await openWriter(options)
  try {
    const unlock = await writer.lock({ exclusive })
    try {
      await work(writer)
      return EXIT.ok
    } finally { await unlock() }
  } finally { await writer.close() }
}

function print(text: string): void {
  const output = new Output()
  output.write(text)
  output.flush()
}
