/** Levels by urgency, the least first. */
export const LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type Level = typeof LEVELS[number]
export type Fields = Readonly<Record<string, unknown>>

/**
 * Where things are said that nobody waits for. Every line has time, level and message; fields hold what a program would look for.
 * pino is not used: loading it takes 20 to 35 ms, a third of the time in which a mount starts, and a mount logs a few lines a day.
 */
export interface Logger {
  debug(message: string, fields?: Fields): void
  info(message: string, fields?: Fields): void
  warn(message: string, fields?: Fields): void
  error(message: string, fields?: Fields): void
}

export interface LoggerOptions {
  /** less urgent lines are left out */
  level: Level
  /** one JSON object per line, instead of text */
  json?: boolean
  /** takes one line with its newline; must not throw */
  write(line: string): void
  /** ms since 1970 */
  now?(): number
}

export function createLogger({ level, json = false, write, now = Date.now }: LoggerOptions): Logger {
  const least = LEVELS.indexOf(level)
  const at = (name: Level) => LEVELS.indexOf(name) < least
    ? () => {}
    : (message: string, fields: Fields = {}) => {
        const time = new Date(now()).toISOString()
        const plain = plainFields(fields, name === 'error' || level === 'debug')
        write(json ? JSON.stringify({ ...plain, time, level: name, msg: message }, bigints) + '\n' : textLine(time, name, message, plain))
      }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** Says nothing. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

function textLine(time: string, level: Level, message: string, fields: Fields): string {
  let line = `${time} ${level.padEnd(5)} ${oneLine(message)}`
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) line += ` ${name}=${textValue(value)}`
  }
  return line + '\n'
}

function textValue(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value, bigints) ?? String(value)
  return /^[^\s"=\\\p{Cc}]+$/u.test(text) ? text : typeof value === 'string' ? JSON.stringify(text) : text
}

// A name in a message may hold a newline: it must not look like a line of its own.
function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, c => JSON.stringify(c).slice(1, -1))
}

function bigints(_name: string, value: unknown): unknown { return typeof value === 'bigint' ? value.toString() : value }

/** Errors as their message; their stack where somebody has to look for a fault. */
function plainFields(fields: Fields, stacks: boolean): Fields {
  const plain: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) plain[name] = value instanceof Error ? (stacks ? chain(value, stackOf) : chain(value, messageOf)) : value
  return plain
}

function chain(error: Error, describe: (error: Error) => string): string {
  return describe(error) + (error.cause instanceof Error ? `; caused by: ${chain(error.cause, describe)}` : '')
}

function messageOf({ message, name }: Error): string { return message || name }
function stackOf(error: Error): string { return error.stack ?? messageOf(error) }
