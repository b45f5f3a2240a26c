import { readFile } from 'node:fs/promises'
import { DaybookError } from '../errors.js'

/**
 * Bytes of a small text file (a password, a location) as restic takes them: a byte order mark is dropped, UTF-16 with one becomes
 * UTF-8, and white space around the text is cut off. Other bytes stay as they are, valid UTF-8 or not.
 * @param what for messages: 'password file'  @throws DaybookError ERR_USAGE
 */
export async function readTextFile(what: string, path: string): Promise<Buffer> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new DaybookError('ERR_USAGE', code === 'ENOENT' ? `${what} ${path} does not exist` : `cannot read ${what} ${path}: ${code}`, undefined, { cause })
  }
  return trimSpace(decodeText(bytes))
}

export function decodeText(bytes: Buffer): Buffer {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return bytes.subarray(3)
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return Buffer.from(new TextDecoder('utf-16le').decode(bytes))
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return Buffer.from(new TextDecoder('utf-16be').decode(bytes))
  return bytes
}

/** Without the characters Go's unicode.IsSpace knows at both ends. On bytes, for a password need not be valid UTF-8. */
export function trimSpace(bytes: Buffer): Buffer {
  let start = 0
  for (let width; (width = spaceAt(bytes, start)) > 0;) start += width
  let end = bytes.length
  for (let width; (width = [1, 2, 3].find(width => end - width >= start && spaceAt(bytes, end - width) === width) ?? 0) > 0;) end -= width
  return bytes.subarray(start, end)
}

/** Bytes of the white space character in UTF-8 that begins there; 0 if none does. */
function spaceAt(bytes: Buffer, at: number): 0 | 1 | 2 | 3 {
  const [a, b, c] = [bytes[at], bytes[at + 1], bytes[at + 2]]
  if (a === 0x20 || a >= 0x09 && a <= 0x0d) return 1
  if (a === 0xc2) return b === 0x85 || b === 0xa0 ? 2 : 0 // U+0085, U+00A0
  const rest = b << 8 | c
  if (a === 0xe1) return rest === 0x9a80 ? 3 : 0 // U+1680
  if (a === 0xe2) return rest >= 0x8080 && rest <= 0x808a || rest === 0x80a8 || rest === 0x80a9 || rest === 0x80af || rest === 0x819f ? 3 : 0 // U+2000 to U+205F
  return a === 0xe3 && rest === 0x8080 ? 3 : 0 // U+3000
}
