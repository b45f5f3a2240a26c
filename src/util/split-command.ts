import { DaybookError } from '../errors.js'

/**
 * Split a command line into words as restic does: at white space outside of quotes, ' or ". There is no shell: no variables, no
 * globs. A backslash takes the meaning from a quote behind it, and separates words outside of quotes like a space.
 * @param what for messages; the command itself may hold a secret and is not shown  @throws DaybookError ERR_USAGE
 */
export function splitCommand(what: string, command: string): [string, ...string[]] {
  const words: string[] = []
  let word = ''
  let quote = ''
  let last = ''
  for (const c of command) {
    let separates = false
    if (last !== '\\' && quote !== '' && c === quote) {
      quote = ''
      separates = true
    } else if (last !== '\\' && quote === '' && (c === '"' || c === '\'')) {
      quote = c
      separates = true
    } else {
      last = c
      separates = quote === '' && (c === '\\' || /\s/.test(c))
    }
    if (!separates) word += c
    else if (word !== '') {
      words.push(word)
      word = ''
    }
  }
  if (word !== '') words.push(word)
  if (quote !== '') throw new DaybookError('ERR_USAGE', `${what}: a ${quote === '"' ? 'double' : 'single'} quote is not closed`)
  if (words.length === 0) throw new DaybookError('ERR_USAGE', `${what} is empty`)
  return words as [string, ...string[]]
}
