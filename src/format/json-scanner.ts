const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
/** unknown fields nested deeper are refused */
const MAX_DEPTH = 1000

/** value of a hex digit by its byte; 255 for others */
const HEX = new Uint8Array(256).fill(255)
for (let digit = 0; digit < 16; digit++) {
  const text = digit.toString(16)
  HEX[text.charCodeAt(0)] = HEX[text.toUpperCase().charCodeAt(0)] = digit
}

/**
 * Reads JSON forwards from bytes, value by value, into places of the caller's choosing: no tree of objects, no strings.
 * What is taken has been checked as far as JSON goes; what is skipped as well. Invalid UTF-8 in strings is let through, as Go does.
 * Methods throw SyntaxError, with a position and nothing of the text, as these are private files.
 */
export class JsonScanner {
  readonly #json: Uint8Array
  #at = 0
  /** the last string read, without its quotes */
  #start = 0
  #end = 0
  #escaped = false

  constructor(json: Uint8Array) { this.#json = json }

  /** First byte of the next value; 0 at the end. */
  peek(): number {
    this.#space()
    return this.#at < this.#json.length ? this.#json[this.#at] : 0
  }

  /** Enter an object. @returns true with its first key read (stringIs tells which), false if it is empty and left again */
  openObject(): boolean {
    this.#expect(OPEN_OBJECT)
    if (this.peek() === CLOSE_OBJECT) {
      this.#at++
      return false
    }
    this.#key()
    return true
  }

  /** Behind a value in an object. @returns true with the next key read, false when the object is left */
  nextKey(): boolean {
    if (this.#more(CLOSE_OBJECT)) {
      this.#key()
      return true
    }
    return false
  }

  /** Enter an array. @returns true before its first item, false if it is empty and left again */
  openArray(): boolean {
    this.#expect(OPEN_ARRAY)
    if (this.peek() === CLOSE_ARRAY) {
      this.#at++
      return false
    }
    return true
  }

  /** Behind an item. @returns true before the next one, false when the array is left */
  nextItem(): boolean { return this.#more(CLOSE_ARRAY) }

  /** Is the last string read (a key, or by takeString) this one? @param text ASCII without quotes and backslashes */
  stringIs(text: string): boolean {
    if (this.#escaped) return this.#unescaped() === text
    if (this.#end - this.#start !== text.length) return false
    for (let i = 0; i < text.length; i++) if (this.#json[this.#start + i] !== text.charCodeAt(i)) return false
    return true
  }

  /** Read the value if it is a string, skip it otherwise. @returns whether it was one */
  takeString(): boolean {
    if (this.peek() !== QUOTE) {
      this.skipValue()
      return false
    }
    this.#string()
    return true
  }

  /** Read an id, 64 hex digits of either case, into 32 bytes at `position`. @returns false (and the place is undefined) if the value is something else */
  takeHexId(target: Uint8Array, position: number): boolean {
    if (!this.takeString() || this.#escaped || this.#end - this.#start !== 64) return false
    const json = this.#json
    let bad = 0
    for (let i = 0, at = this.#start; i < 32; i++, at += 2) {
      const high = HEX[json[at]]
      const low = HEX[json[at + 1]]
      bad |= high | low
      target[position + i] = high << 4 | low
    }
    return bad < 16
  }

  /** Read a whole number from 0 to 2^53 - 1; anything else is skipped. @returns -1 then */
  takeCount(): number {
    const json = this.#json
    const first = this.peek()
    if (first < 0x30 || first > 0x39) {
      this.skipValue()
      return -1
    }
    const start = this.#at
    let value = 0
    let at = start
    for (; at < json.length; at++) {
      const digit = json[at] - 0x30
      if (digit < 0 || digit > 9) break
      value = value * 10 + digit
    }
    const next = at < json.length ? json[at] : 0
    if (first === 0x30 && at > start + 1 || next === 0x2e || next === 0x65 || next === 0x45) {
      this.#number()
      return -1
    }
    this.#at = at
    return Number.isSafeInteger(value) ? value : -1
  }

  /** @returns whether the value was null, which is read then */
  takeNull(): boolean {
    if (this.peek() !== 0x6e) return false
    this.#word('null')
    return true
  }

  /** Read past a value of any kind. Without recursion: depth is the file's choice. */
  skipValue(): void {
    const open: number[] = []
    for (;;) {
      const byte = this.peek()
      let entered = false
      if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
        if (open.length >= MAX_DEPTH) this.#fail('nested too deeply')
        entered = byte === OPEN_OBJECT ? this.openObject() : this.openArray()
        if (entered) open.push(byte)
      } else if (byte === QUOTE) this.#string()
      else if (byte === 0x74) this.#word('true')
      else if (byte === 0x66) this.#word('false')
      else if (byte === 0x6e) this.#word('null')
      else this.#number()
      if (entered) continue
      while (open.length > 0 && !(open[open.length - 1] === OPEN_OBJECT ? this.nextKey() : this.nextItem())) open.pop()
      if (open.length === 0) return
    }
  }

  /** Nothing but white space may follow. */
  end(): void {
    if (this.peek() !== 0 || this.#at < this.#json.length) this.#fail('something follows the JSON')
  }

  #key(): void {
    if (this.peek() !== QUOTE) this.#fail('a key is missing')
    this.#string()
    this.#expect(COLON)
  }

  #more(close: number): boolean {
    const byte = this.peek()
    if (byte !== COMMA && byte !== close) this.#fail('a comma is missing')
    this.#at++
    return byte === COMMA
  }

  #expect(byte: number): void {
    if (this.peek() !== byte) this.#fail(`${String.fromCharCode(byte)} is missing`)
    this.#at++
  }

  #string(): void {
    const json = this.#json
    let at = this.#at + 1
    this.#start = at
    this.#escaped = false
    for (;; at++) {
      if (at >= json.length) this.#fail('a string does not end')
      const byte = json[at]
      if (byte === QUOTE) break
      if (byte < 0x20) this.#fail('control character in a string')
      if (byte === BACKSLASH) {
        this.#escaped = true
        at++
      }
    }
    this.#end = at
    this.#at = at + 1
    if (this.#escaped) this.#unescaped()
  }

  #unescaped(): string {
    const text = Buffer.from(this.#json.buffer, this.#json.byteOffset + this.#start - 1, this.#end - this.#start + 2).toString('utf8')
    try {
      return JSON.parse(text) as string
    } catch {
      this.#fail('bad escape in a string')
    }
  }

  #number(): void {
    const json = this.#json
    const start = this.#at
    let at = start
    if (json[at] === 0x2d) at++
    const digits = (): number => {
      const from = at
      while (at < json.length && json[at] >= 0x30 && json[at] <= 0x39) at++
      return at - from
    }
    const whole = at
    const count = digits()
    let good = count > 0 && (count === 1 || json[whole] !== 0x30)
    if (json[at] === 0x2e) {
      at++
      good = digits() > 0 && good
    }
    if (json[at] === 0x65 || json[at] === 0x45) {
      at++
      if (json[at] === 0x2b || json[at] === 0x2d) at++
      good = digits() > 0 && good
    }
    if (!good) this.#fail('a value is missing')
    this.#at = at
  }

  #word(word: string): void {
    for (let i = 0; i < word.length; i++) if (this.#json[this.#at + i] !== word.charCodeAt(i)) this.#fail('a value is missing')
    this.#at += word.length
  }

  #space(): void {
    const json = this.#json
    let at = this.#at
    while (at < json.length) {
      const byte = json[at]
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break
      at++
    }
    this.#at = at
  }

  #fail(fact: string): never {
    throw new SyntaxError(`${fact} at byte ${this.#at}`)
  }
}
