import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Contents, type Kind } from './contents.js'
import { Random, seedFor } from './random.js'

export interface SourceFile {
  readonly index: number
  readonly path: string
  readonly kind: Kind
  lengthBytes: number
  revision: number
}

/** How much of everything; `scale` 1 is the tree the figures in README.md are from. */
export interface Plan {
  readonly seed: number
  readonly scale: number
}

/** The part that `cp -r` copies: many small files in many directories. */
export const SMALL_DIRECTORY = 'small'
/** The one large file, read by `dd` and by random reads. */
export const BIG_FILE = 'archive/disk.img'

const COUNTS = { small: 11_256, site: 28_000, image: 7_000, mail: 10_743 }
const MEGABYTES = { small: 112, site: 340, image: 1_080, mail: 368, big: 500 }
const EXTENSIONS = ['php', 'php', 'php', 'js', 'css', 'html', 'json', 'txt', 'svg', 'po']
const NAMES = ['admin', 'api', 'app', 'assets', 'blocks', 'cache', 'class', 'core', 'css', 'data', 'fonts', 'forms', 'images', 'includes', 'js', 'lang', 'lib',
  'models', 'modules', 'pages', 'plugins', 'rest', 'src', 'templates', 'tests', 'themes', 'uploads', 'utils', 'vendor', 'views', 'widgets']

/**
 * A tree like that of a hosting server, made from a seed: web spaces (compressible texts, incompressible images), maildirs,
 * one directory of small files, one large file. Sizes are log-normal within each kind and add up to the kind's total.
 */
export class SourceTree {
  readonly files: SourceFile[] = []
  readonly #contents: Contents
  readonly #random: Random
  readonly #made = new Set<string>()
  #nextIndex = 0

  constructor(readonly root: string, readonly plan: Plan) {
    this.#contents = new Contents(plan.seed)
    this.#random = new Random(plan.seed)
    this.#planTexts(SMALL_DIRECTORY, this.#scaled(COUNTS.small), Math.max(2, this.#scaled(900)), MEGABYTES.small, 0.9)
    const domains = Math.max(2, Math.round(24 * Math.sqrt(plan.scale)))
    for (let d = 0; d < domains; d++) {
      const share = (count: number) => Math.floor(count * (d + 1) / domains) - Math.floor(count * d / domains)
      const files = share(this.#scaled(COUNTS.site))
      this.#planTexts(`sites/customer${d}.example/public`, files, Math.ceil(files / 12), MEGABYTES.site / domains, 1.3)
      this.#planImages(`sites/customer${d}.example/public/uploads`, share(this.#scaled(COUNTS.image)), MEGABYTES.image / domains)
      this.#planMails(`mails/customer${d}.example`, share(this.#scaled(COUNTS.mail)), MEGABYTES.mail / domains)
    }
    this.files.push(this.#file(BIG_FILE, 'mixed', Math.max(64 << 10, Math.round(MEGABYTES.big * 1e6 * plan.scale))))
  }

  get totalBytes(): number {
    return this.files.reduce((sum, file) => sum + file.lengthBytes, 0)
  }

  /** Write the whole first day. */
  write(): void {
    for (const file of this.files) this.#write(file)
  }

  /**
   * One day passes: about 1 % of the files change, 0.1 % go and as many come. `small/` keeps its number of files, and
   * the large file changes in one place every tenth day, so that its chunks lie in several packs.
   */
  nextDay(day: number): { changed: number, added: number, removed: number } {
    const random = new Random(seedFor(this.plan.seed, -1 - day))
    const changed = Math.max(1, Math.round(this.files.length * 0.01))
    for (let n = 0; n < changed; n++) {
      const file = random.pick(this.files)
      if (file.path !== BIG_FILE) this.#rewrite(file)
    }
    if (day % 10 === 0) this.#rewrite(this.files.find(file => file.path === BIG_FILE)!)

    const turnover = Math.max(1, Math.round(this.files.length * 0.001))
    for (let n = 0; n < turnover; n++) {
      const at = random.below(this.files.length)
      const file = this.files[at]
      if (file.path === BIG_FILE || file.path.startsWith(SMALL_DIRECTORY + '/')) continue
      rmSync(join(this.root, file.path))
      const added = this.#file(join(dirname(file.path), `new-${day}-${n}${file.kind === 'text' ? '.php' : '.jpg'}`), file.kind, file.lengthBytes)
      this.files[at] = added
      this.#write(added)
    }
    return { changed, added: turnover, removed: turnover }
  }

  #scaled(count: number): number {
    return Math.max(1, Math.round(count * this.plan.scale))
  }

  #file(path: string, kind: Kind, lengthBytes: number): SourceFile {
    return { index: this.#nextIndex++, path, kind, lengthBytes, revision: 0 }
  }

  #addAll(paths: { path: string, kind: Kind }[], megabytes: number, sigma: number): void {
    const weights = paths.map(() => Math.min(400, this.#random.logNormal(sigma)))
    const unit = megabytes * 1e6 * this.plan.scale / weights.reduce((sum, weight) => sum + weight, 0)
    paths.forEach(({ path, kind }, n) => this.files.push(this.#file(path, kind, Math.max(40, Math.round(weights[n] * unit)))))
  }

  #planTexts(root: string, count: number, directories: number, megabytes: number, sigma: number): void {
    const dirs = [root]
    for (let n = 1; n < directories; n++) {
      let parent = this.#random.pick(dirs)
      while (parent.split('/').length > 9) parent = dirname(parent)
      dirs.push(`${parent}/${this.#random.pick(NAMES)}-${n.toString(36)}`)
    }
    // The first file of each directory: none is empty, so the number of directories is as planned.
    const paths = Array.from({ length: count }, (_, n) => {
      const dir = n < dirs.length ? dirs[n] : this.#random.pick(dirs)
      return { path: `${dir}/${this.#random.pick(NAMES)}-${this.#random.pick(NAMES)}-${n}.${this.#random.pick(EXTENSIONS)}`, kind: 'text' as const }
    })
    this.#addAll(paths, megabytes, sigma)
  }

  #planImages(root: string, count: number, megabytes: number): void {
    const paths = Array.from({ length: count }, (_, n) => {
      const month = 1 + this.#random.below(12)
      return { path: `${root}/${2023 + this.#random.below(4)}/${String(month).padStart(2, '0')}/IMG_${4000 + n}.jpg`, kind: 'noise' as const }
    })
    this.#addAll(paths, megabytes, 1.1)
  }

  #planMails(root: string, count: number, megabytes: number): void {
    const folders = ['cur', 'cur', 'cur', 'new', '.Sent/cur', '.Archive/cur', '.Trash/cur']
    const paths = Array.from({ length: count }, (_, n) => {
      const name = `${1_700_000_000 + n * 977}.M${this.#random.below(1e6)}P${this.#random.below(30000)}.mx1,S=${n}:2,S`
      return { path: `${root}/user${this.#random.below(12)}/${this.#random.pick(folders)}/${name}`, kind: this.#random.next() < 0.7 ? 'text' as const : 'noise' as const }
    })
    this.#addAll(paths, megabytes, 1.5)
  }

  #rewrite(file: SourceFile): void {
    file.revision++
    this.#write(file)
  }

  #write(file: SourceFile): void {
    const path = join(this.root, file.path)
    const dir = dirname(path)
    if (!this.#made.has(dir)) mkdirSync(dir, { recursive: true })
    this.#made.add(dir)
    writeFileSync(path, this.#contents.make(file.index, file.kind, file.lengthBytes, file.revision))
    // The first version is years old, so that a tree of one day does not look as if everything had changed at once.
    if (file.revision === 0) {
      const seconds = 1_600_000_000 + new Random(seedFor(this.plan.seed, file.index)).below(180_000_000)
      utimesSync(path, seconds, seconds)
    }
  }
}
