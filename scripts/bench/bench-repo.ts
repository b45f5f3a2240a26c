import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeLargeTree } from './large-tree.js'
import { BIG_FILE, SMALL_DIRECTORY, SourceTree } from './source-tree.js'

/** What a finished benchmark repository holds; written last, so a directory without it is unfinished and made anew. */
export interface Manifest {
  readonly recipe: string
  readonly repository: string
  readonly passwordFile: string
  /** The tree of the newest snapshot on a plain file system, or null if it was not kept. */
  readonly source: string | null
  readonly files: number
  readonly bytes: number
  readonly snapshots: number
  readonly smallDirectory: string | null
  readonly bigFile: string | null
  readonly resticVersion: string
  readonly secondsToMake: number
}

export interface MakeOptions {
  readonly restic: string
  readonly seed: number
  readonly log: (line: string) => void
}

const LAST_DAY_MS = Date.UTC(2026, 10, 20)
const PASSWORD = 'daybook-benchmark'

/** As restic's --time wants it: 03:15 local time, so many days before the last one. */
function timeOf(daysBack: number): string {
  return `${new Date(LAST_DAY_MS - daysBack * 86_400_000).toISOString().slice(0, 10)} 03:15:00`
}

/** The repository under `dir`, if it is finished and was made by the same recipe. */
export function readManifest(dir: string): Manifest | null {
  const path = join(dir, 'manifest.json')
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) as Manifest : null
}

/** 57,000 files, 2.4 GB, 30 snapshots at scale 1: the repository of the speed table. */
export function makeStandard(dir: string, scale: number, snapshots: number, options: MakeOptions): Promise<Manifest> {
  return make(dir, `standard seed=${options.seed} scale=${scale} snapshots=${snapshots} v1`, options, async run => {
    const source = join(dir, 'source')
    const tree = new SourceTree(source, { seed: options.seed, scale })
    options.log(`writing ${tree.files.length} files, ${(tree.totalBytes / 1e9).toFixed(2)} GB`)
    tree.write()
    for (let day = 0; day < snapshots; day++) {
      const delta = day === 0 ? null : tree.nextDay(day)
      await run(['backup', '--quiet', '--host', 'bench', '--time', timeOf(snapshots - 1 - day), '.'], source)
      options.log(`snapshot ${day + 1} of ${snapshots}` + (delta === null ? '' : `: ${delta.changed} files changed, ${delta.added} added, ${delta.removed} removed`))
    }
    return { files: tree.files.length, bytes: tree.totalBytes, snapshots, smallDirectory: SMALL_DIRECTORY, bigFile: BIG_FILE, source }
  })
}

/**
 * 1,000,000 files in 20,000 directories at scale 1, and with its 600 snapshots and 1.5 million blobs also the repository
 * that is 20 times as large as the standard one in everything that is read at start-up.
 */
export function makeLarge(dir: string, scale: number, options: MakeOptions): Promise<Manifest> {
  const directories = Math.max(2, Math.round(20_000 * scale))
  const snapshots = Math.max(4, Math.round(600 * scale))
  return make(dir, `large seed=${options.seed} scale=${scale} v1`, options, async run => {
    const source = mkdtempSync(join(roomOnTmpfs() ? '/dev/shm' : dir, 'daybook-source-'))
    const remove = () => rmSync(source, { recursive: true, force: true })
    const leave = () => process.exit(1)
    // An interrupted run must not leave gigabytes in memory.
    process.on('exit', remove).on('SIGINT', leave).on('SIGTERM', leave)
    try {
      await fillLarge(directories, snapshots, run, source, options)
    } finally {
      process.off('exit', remove).off('SIGINT', leave).off('SIGTERM', leave)
      remove()
    }
    return { files: directories * 50, bytes: 0, snapshots, smallDirectory: null, bigFile: null, source: null }
  })
}

type Run = (args: string[], cwd: string) => Promise<void>

/** A million files take 5 GB of a tmpfs. A disk that is told of every freed block at once (mount -o discard) needs an hour for what takes minutes there. */
function roomOnTmpfs(): boolean {
  if (!existsSync('/dev/shm')) return false
  const { bavail, bsize, ffree } = statfsSync('/dev/shm')
  return bavail * bsize > 8e9 && ffree > 1_200_000
}

async function fillLarge(directories: number, snapshots: number, run: Run, source: string, options: MakeOptions): Promise<void> {
  // The small snapshots come first, while restic has no large index to load: about 0.7 s each, nearly all key derivation.
  await writeLargeTree(source, 1, 10, 0)
  for (let n = 0; n < snapshots - 2; n++) {
    await writeLargeTree(source, 1, 1, -1 - n)
    await run(['backup', '--quiet', '--host', 'bench', '--time', timeOf(snapshots - 1 - n), '.'], source)
    if ((n + 1) % 100 === 0) options.log(`${n + 1} small snapshots`)
  }
  options.log(`writing ${Math.ceil(directories / 2) * 50} files`)
  await writeLargeTree(source, Math.ceil(directories / 2), 50, 1)
  await run(['backup', '--quiet', '--host', 'bench', '--time', timeOf(1), '.'], source)
  options.log(`writing ${directories * 50} files`)
  await writeLargeTree(source, directories, 50, 2)
  await run(['backup', '--quiet', '--force', '--host', 'bench', '--time', timeOf(0), '.'], source)
}

type Filled = Pick<Manifest, 'files' | 'bytes' | 'snapshots' | 'smallDirectory' | 'bigFile' | 'source'>

async function make(dir: string, recipe: string, options: MakeOptions, fill: (run: Run) => Promise<Filled>): Promise<Manifest> {
  const existing = readManifest(dir)
  if (existing?.recipe === recipe) return existing
  rmSync(dir, { recursive: true, force: true })
  mkdirSync(dir, { recursive: true })
  const repository = join(dir, 'repo')
  const passwordFile = join(dir, 'password')
  writeFileSync(passwordFile, PASSWORD + '\n')

  const started = Date.now()
  const run: Run = (args, cwd) => new Promise((resolve, reject) => {
    const child = spawn(options.restic, ['--repo', repository, '--password-file', passwordFile, '--no-cache', ...args], { cwd, stdio: ['ignore', 'ignore', 'inherit'] })
    child.on('error', reject)
    child.on('close', status => status === 0 ? resolve() : reject(new Error(`${options.restic} ${args.join(' ')} ended with ${status}`)))
  })
  await run(['init'], dir)
  const manifest: Manifest = {
    recipe, repository, passwordFile, ...await fill(run),
    resticVersion: spawnSync(options.restic, ['version'], { encoding: 'utf8' }).stdout.trim(),
    secondsToMake: Math.round((Date.now() - started) / 1000),
  }
  writeFileSync(join(dir, 'manifest.json.new'), JSON.stringify(manifest, null, 2) + '\n')
  renameSync(join(dir, 'manifest.json.new'), join(dir, 'manifest.json'))
  return manifest
}
