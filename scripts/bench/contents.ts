import { createCipheriv } from 'node:crypto'
import { Random, seedFor } from './random.js'

/** What a file holds: `text` compresses about as source code does, `noise` not at all, `mixed` alternates in runs of some MiB. */
export type Kind = 'text' | 'noise' | 'mixed'

const WORDS = ('add apply array block build cache call check class client config content count create data date default delete entry error event ' +
  'export field file filter find form function get group handle header hook id image import index init input item key label language link list load ' +
  'locale login mail menu message meta method mode module name node object option order output page parse path post query read register remove render ' +
  'request response result role route save schema script search select send session set setting show site size slug source state status string style ' +
  'table tag template term text theme time title token type update upload url user validate value version view widget write').split(' ')
const POOL_BYTES = 8 << 20
const ZEROS = Buffer.alloc(1 << 20)

/** Makes file contents from a seed, fast enough (about 1 GB/s) that the disk is what limits. */
export class Contents {
  readonly #seed: number
  readonly #pool: Buffer

  constructor(seed: number) {
    this.#seed = seed
    this.#pool = textPool(new Random(seed))
  }

  /** The bytes of file number `index` in its `revision`-th version; versions of one file differ in one place and in their last line. */
  make(index: number, kind: Kind, length: number, revision: number): Buffer {
    const random = new Random(seedFor(this.#seed, index))
    const out = kind === 'text' ? this.#text(random, length) : kind === 'noise' ? noise(random, length) : this.#mixed(random, length)
    const stamp = `/* file ${index} revision ${revision} */\n`
    out.write(stamp, 0, 'latin1')
    if (revision > 0) {
      out.write(stamp, new Random(seedFor(revision, index)).below(Math.max(1, length - stamp.length)), 'latin1')
      out.write(stamp, Math.max(0, length - stamp.length), 'latin1')
    }
    return out
  }

  #text(random: Random, length: number): Buffer {
    const out = Buffer.allocUnsafe(length)
    for (let at = 0; at < length;) {
      const from = random.below(POOL_BYTES - 65536)
      at += this.#pool.copy(out, at, from, from + Math.min(length - at, 4096 + random.below(61440)))
    }
    return out
  }

  #mixed(random: Random, length: number): Buffer {
    const parts: Buffer[] = []
    for (let left = length, text = false; left > 0; text = !text) {
      const run = Math.min(left, (4 << 20) + random.below(28 << 20))
      parts.push(text ? this.#text(random, run) : noise(random, run))
      left -= run
    }
    return Buffer.concat(parts)
  }
}

function noise(random: Random, length: number): Buffer {
  const key = Buffer.alloc(16)
  for (let at = 0; at < 16; at += 4) key.writeUInt32LE(random.below(2 ** 32), at)
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  const out = Buffer.allocUnsafe(length)
  for (let at = 0; at < length; at += ZEROS.length) cipher.update(ZEROS.subarray(0, Math.min(ZEROS.length, length - at))).copy(out, at)
  return out
}

function textPool(random: Random): Buffer {
  const lines: string[] = []
  const word = () => WORDS[Math.floor(WORDS.length * random.next() ** 2)]
  for (let bytes = 0; bytes < POOL_BYTES;) {
    const indent = '  '.repeat(random.below(5))
    const line = indent + random.pick([
      () => `$${word()} = $this->${word()}_${word()}($${word()}, '${word()}-${word()}', ${random.below(100000)});`,
      () => `if (isset($${word()}['${word()}']) && ${word()}_${word()}($${word()}) > ${random.below(1000)}) {`,
      () => `function ${word()}${word()}(${word()}, ${word()} = ${random.below(100)}) { return ${word()}.${word()}(${word()}) }`,
      () => `// ${word()} ${word()} the ${word()} ${word()} when ${word()} is ${word()} (${word()} ${random.below(10000)})`,
      () => `.${word()}-${word()} { ${word()}: ${random.below(200)}px; color: #${random.below(0xffffff).toString(16)} }`,
      () => '}',
    ])() + '\n'
    lines.push(line)
    bytes += line.length
  }
  return Buffer.from(lines.join(''), 'latin1').subarray(0, POOL_BYTES)
}
