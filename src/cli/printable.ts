/**
 * Text for a terminal: control characters (which could move the cursor, change the title or hide what follows), bytes that are not UTF-8,
 * and characters that turn the direction of writing are shown as escapes, as `ls -b` does; a backslash too, so that it can be read back.
 */
export function printableName(name: Uint8Array): string {
  const bytes = Buffer.from(name.buffer, name.byteOffset, name.length)
  const text = bytes.toString('utf8')
  if (!text.includes('\ufffd') || Buffer.from(text).equals(bytes)) return escapeControls(text.replaceAll('\\', '\\\\'))
  // Some byte is not UTF-8: take the text in pieces, and show what does not decode in octal.
  let shown = ''
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes, at)
    shown += length === 0 ? octal(bytes[at]) : escapeControls(bytes.toString('utf8', at, at + length).replaceAll('\\', '\\\\'))
    at += length || 1
  }
  return shown
}

/** The same for text of our own with names in it: backslashes stay. */
export function printable(text: string): string { return escapeControls(text) }

const SHORT: Record<string, string> = { '\n': '\\n', '\t': '\\t', '\r': '\\r', '\b': '\\b', '\f': '\\f', '\v': '\\v' }

// C0, DEL, C1; line and paragraph separators; what sets or overrides the direction of writing; unpaired surrogates.
const UNSAFE = /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\p{Cs}]/gu

function escapeControls(text: string): string {
  return text.replace(UNSAFE, c => SHORT[c] ?? [...Buffer.from(c)].map(octal).join(''))
}

function octal(byte: number): string { return `\\${byte.toString(8).padStart(3, '0')}` }

/** Length of the well-formed UTF-8 sequence at `at`, 0 if there is none. */
function sequenceLength(bytes: Buffer, at: number): number {
  const first = bytes[at]
  const length = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0
  if (length === 0 || at + length > bytes.length) return 0
  const sequence = bytes.subarray(at, at + length)
  return Buffer.from(sequence.toString('utf8')).equals(sequence) ? length : 0
}
