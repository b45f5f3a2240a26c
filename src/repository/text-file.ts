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
  const text = bytes.toString('latin1')
  const start = /^(?:[\t-\r ]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)*/.exec(text)![0].length
  let end = text.length
  for (;;) {
    const tail = /(?:[\t-\r ]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)$/.exec(text.slice(Math.max(start, end - 3), end))
    if (!tail) break
    end -= tail[0].length
  }
  return bytes.subarray(start, Math.max(start, end))
}
