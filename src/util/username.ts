import { userInfo } from 'node:os'

/** Who this process is; '' for a uid without an entry in the password database. */
export function username(): string {
  try {
    return userInfo().username
  } catch {
    return ''
  }
}
