import { DaybookError } from '../errors.js'
import { promptPassword, standardTerminal } from '../repository/prompt.js'

/** Twice, since nobody sees what is typed. @throws DaybookError ERR_USAGE */
export async function askNewPassword(prompt: string): Promise<Buffer> {
  const password = await promptPassword(standardTerminal(), prompt)
  if (password.length === 0) throw new DaybookError('ERR_USAGE', 'the password is empty', 'a repository without one is made with --insecure-no-password')
  const again = await promptPassword(standardTerminal(), 'enter password again: ')
  if (!again.equals(password)) throw new DaybookError('ERR_USAGE', 'the passwords are not the same')
  again.fill(0)
  return password
}
