import { DaybookError } from '../errors.js'

/**
 * Patterns as restic's --exclude has them (internal/filter), matched against absolute paths:
 *   a pattern that begins with a slash is that path, others are so many names next to each other, anywhere in it;
 *   `*` `?` `[a-z]` stand for characters of one name, `**` for any number of names;
 *   a match excludes all that is below it; one that begins with `!` takes back what an earlier one has excluded.
 *
 * Paths and patterns are strings in which a byte that is not UTF-8 is a lone surrogate (decodeName): Go counts it as one character, too.
 */
export class PatternList {
  readonly #patterns: readonly Pattern[]
  readonly #fold: boolean

  /** @param ignoreCase upper and lower case are the same @throws DaybookError ERR_USAGE: a pattern that is none */
  constructor(patterns: readonly string[], ignoreCase = false) {
    this.#fold = ignoreCase
    this.#patterns = patterns.filter(text => text !== '').map(text => parse(ignoreCase ? text.toLowerCase() : text))
  }

  get empty(): boolean { return this.#patterns.length === 0 }

  matches(path: string): boolean {
    const names = split(this.#fold ? path.toLowerCase() : path)
    let matched = false
    for (const { parts, negated } of this.#patterns) {
      if (negated ? matched : !matched) if (matchParts(parts, names)) matched = !negated
    }
    return matched
  }
}

/** '/' at the front of what is absolute; a string is compared as it is; null is `**`. */
type Part = string | RegExp | null
interface Pattern { readonly parts: readonly Part[], readonly negated: boolean }

function parse(text: string): Pattern {
  const negated = text.startsWith('!')
  const parts = split(clean(negated ? text.slice(1) : text)).map(part => {
    // An empty name comes of a pattern that is the root alone; restic takes it for all that is below.
    if (part === '**' || part === '') return null
    return /[\\[\]*?]/.test(part) ? nameExpression(part, text) : part
  })
  return { parts, negated }
}

function split(path: string): string[] {
  const names = path.split('/')
  if (names[0] === '') names[0] = '/'
  return names
}

/** As Go's filepath.Clean. */
function clean(path: string): string {
  const absolute = path.startsWith('/')
  const names: string[] = []
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue
    if (name === '..' && names.length > 0 && names[names.length - 1] !== '..') names.pop()
    else if (name !== '..' || !absolute) names.push(name)
  }
  return (absolute ? '/' : '') + names.join('/') || '.'
}

function matchParts(parts: readonly Part[], names: readonly string[]): boolean {
  const wild = parts.indexOf(null)
  if (wild >= 0) {
    for (let count = 0; count <= names.length - parts.length + 1; count++) {
      const expanded = [...parts.slice(0, wild), ...new Array<Part>(count).fill(ANY_NAME), ...parts.slice(wild + 1)]
      if (matchParts(expanded, names)) return true
    }
    return false
  }
  if (parts.length === 0 || parts.length > names.length) return parts.length === 0 && names.length === 0
  const last = parts[0] === '/' ? 0 : names.length - parts.length
  const first = parts[0] !== '/' && names[0] === '/' ? 1 : 0
  for (let offset = last; offset >= first; offset--) {
    if (parts.every((part, i) => typeof part === 'string' ? part === names[offset + i] : part!.test(names[offset + i]))) return true
  }
  return false
}

const ANY_NAME = /^[^/]*$/u

/** One name of a pattern, as Go's filepath.Match reads it, as an expression. Other programs read it so, too. @throws DaybookError ERR_USAGE */
export function nameExpression(part: string, pattern = part): RegExp {
  const bad = () => new DaybookError('ERR_USAGE', `not a pattern: ${pattern}`, 'a [ must be closed, and a \\ must be followed by what it stands for')
  const characters = [...part]
  let source = ''
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at]
    if (character === '*') source += '[^/]*'
    else if (character === '?') source += '[^/]'
    else if (character === '\\') {
      if (++at === characters.length) throw bad()
      source += escape(characters[at])
    } else if (character === '[') {
      const negated = characters[at + 1] === '^'
      if (negated) at++
      let ranges = ''
      const next = (): string => {
        let value = characters[++at]
        if (value === undefined || value === '-' || value === ']') throw bad()
        if (value === '\\') value = characters[++at]
        if (value === undefined || at + 1 >= characters.length) throw bad()
        return value
      }
      do {
        const low = next()
        let high = low
        if (characters[at + 1] === '-') {
          at++
          high = next()
        }
        // Go takes a range the wrong way round for one that holds nothing.
        if (low.codePointAt(0)! <= high.codePointAt(0)!) ranges += `${escape(low)}-${escape(high)}`
      } while (characters[at + 1] !== ']')
      at++
      source += ranges === '' ? (negated ? '[^]' : '[]') : `[${negated ? '^' : ''}${ranges}]`
    } else source += escape(character)
  }
  return new RegExp(`^${source}$`, 'u')
}

function escape(character: string): string {
  return /[\^$\\.*+?()[\]{}|/-]/.test(character) ? `\\${character === '-' ? 'x2d' : character}` : character
}

/** A path as characters: what is not UTF-8 becomes U+DC80 to U+DCFF, byte by byte. */
export function decodeName(path: Buffer): string {
  const text = path.toString('utf8')
  if (!text.includes('\ufffd')) return text
  let decoded = ''
  for (let at = 0; at < path.length;) {
    let length = 1
    if (path[at] >= 0xc2) {
      for (length = path[at] >= 0xf0 ? 4 : path[at] >= 0xe0 ? 3 : 2; length > 1; length = 1) {
        const piece = path.subarray(at, at + length)
        if (Buffer.from(piece.toString('utf8')).equals(piece)) break
      }
    }
    decoded += length === 1 && path[at] >= 0x80 ? String.fromCharCode(0xdc00 + path[at]) : path.toString('utf8', at, at + length)
    at += length
  }
  return decoded
}
