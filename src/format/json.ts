import { CorruptError } from '../errors.js'

export type JsonObject = Readonly<Record<string, unknown>>

/** A JSON object from stored bytes. @param file its name for messages @throws CorruptError if it is anything else */
export function parseObject(file: string, json: Uint8Array): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString('utf8'))
  } catch (cause) {
    // V8 quotes the text in its message. These files hold keys and private paths: the message stays behind.
    throw new CorruptError(file, cause instanceof SyntaxError ? 'not JSON' : 'too large')
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new CorruptError(file, 'not a JSON object')
  return value as JsonObject
}

/** Bytes of standard base64 with padding, as Go's encoding/json writes []byte; null if it is not exactly that. */
export function decodeBase64(text: unknown): Buffer | null {
  if (typeof text !== 'string' || text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return null
  return Buffer.from(text, 'base64')
}
