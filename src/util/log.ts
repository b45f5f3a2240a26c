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
        write(json ? jsonLine(time, name, message, fields) : textLine(time, name, message, fields))
      }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** Says nothing. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

function jsonLine(time: string, level: Level, message: string, fields: Fields): string {
  return JSON.stringify({ ...fields, time, level, msg: message }, plainValue) + '\n'
}

function textLine(time: string, level: Level, message: string, fields: Fields): string {
  let line = `${time} ${level.padEnd(5)} ${oneLine(message)}`
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) line += ` ${name}=${textValue(value)}`
  }
  return line + '\n'
}

function textValue(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value, plainValue) ?? String(value)
  return /^[^\s"=\\\p{Cc}]+$/u.test(text) ? text : typeof value === 'string' ? JSON.stringify(text) : text
}

// A name in a message may hold a newline: it must not look like a line of its own.
function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, c => JSON.stringify(c).slice(1, -1))
}

function plainValue(_name: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (!(value instanceof Error)) return value
  const { message, stack, cause } = value
  return { message, code: (value as NodeJS.ErrnoException).code, stack, cause }
}
