const NAME = /^[0-9a-f]{64}$/

/** Is it the name of a file of the repository: 64 lower-case hex digits? */
export function isIdName(text: string): boolean {
  return NAME.test(text)
}

/** 32 bytes of an id from its 64 hex digits. @throws RangeError on anything else */
export function idBytes(name: string): Buffer {
  if (!NAME.test(name)) throw new RangeError(`not an id: ${JSON.stringify(name)}`)
  return Buffer.from(name, 'hex')
}
