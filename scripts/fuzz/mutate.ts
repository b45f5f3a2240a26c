/** Pieces that matter to JSON, and numbers at which arithmetic goes wrong. */
const PIECES = [
  'null', 'true', '""', '{}', '[]', '[', '{', '"', '\\', '\\u0000', '\\ud800', ',', ':', '}', ']', '-1', '0', '1e999', '1.5', '4294967295', '4294967296', '9007199254740993', '99999999999999999999',
  '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[', '"id":', '"packs":', '"blobs":', '"type":"tree"', '"N":', '"__proto__":', '\ufeff', '\u2028', 'ab'.repeat(32),
].map(text => Buffer.from(text))
const NUMBERS = [0, 1, 2, 31, 32, 33, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff]

/** One to four random changes: bits, bytes, numbers, pieces put in, ranges cut out, doubled, moved or zeroed, the end cut off. Does not touch `original`. */
export function mutate(original: Buffer, random: () => number): Buffer {
  const below = (limit: number) => Math.floor(random() * limit)
  let bytes = Buffer.from(original)
  for (let left = 1 + below(4); left > 0; left--) {
    const at = below(bytes.length + 1)
    const end = Math.min(bytes.length, at + 1 + below(random() < 0.8 ? 16 : bytes.length + 1))
    const cut = (replacement: Uint8Array, until = at) => { bytes = Buffer.concat([bytes.subarray(0, at), replacement, bytes.subarray(until)]) }
    switch (below(9)) {
      case 0: if (at < bytes.length) bytes[at] ^= 1 << below(8); break
      case 1: if (at < bytes.length) bytes[at] = below(256); break
      case 2: if (at + 4 <= bytes.length) bytes.writeUInt32LE(NUMBERS[below(NUMBERS.length)], at); break
      case 3: cut(PIECES[below(PIECES.length)]); break
      case 4: cut(PIECES[below(PIECES.length)], end); break
      case 5: cut(Buffer.alloc(0), end); break
      case 6: cut(Buffer.from(bytes.subarray(at, end))); break
      case 7: bytes.fill(0, at, end); break
      default: bytes = bytes.subarray(0, at)
    }
  }
  return bytes
}
