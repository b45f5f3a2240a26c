import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
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

/** `time` as restic's --time wants it: day `daysBack` before the last one, at 03:15 local time plus `minutes`. */
function timeOf(daysBack: number, minutes = 0): string {
  const date = new Date(LAST_DAY_MS - daysBack * 86_400_000).toISOString().slice(0, 10)
  return `${date} ${String(3 + Math.floor((15 + minutes) / 60)).padStart(2, '0')}:${String((15 + minutes) % 60).padStart(2, '0')}:00`
}

/** The repository under `dir`, if it is finished and was made by the same recipe. */
export function readManifest(dir: string): Manifest | null {
  const path = join(dir, 'manifest.json')
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) as Manifest : null
}

/** 57,000 files, 2.4 GB, 30 snapshots at scale 1: the repository of the speed table. */
export function makeStandard(dir: string, scale: number, snapshots: number, options: MakeOptions): Manifest {
  return make(dir, `standard seed=${options.seed} scale=${scale} snapshots=${snapshots} v1`, options, (run, source) => {
    const tree = new SourceTree(source, { seed: options.seed, scale })
    options.log(`writing ${tree.files.length} files, ${(tree.totalBytes / 1e9).toFixed(2)} GB`)
    tree.write()
    for (let day = 0; day < snapshots; day++) {
      const delta = day === 0 ? null : tree.nextDay(day)
      run(['backup', '--quiet', '--host', 'bench', '--time', timeOf(snapshots - 1 - day), '.'], source)
      options.log(`snapshot ${day + 1} of ${snapshots}` + (delta === null ? '' : `: ${delta.changed} files changed, ${delta.added} added, ${delta.removed} removed`))
    }
    return { files: tree.files.length, bytes: tree.totalBytes, snapshots, smallDirectory: SMALL_DIRECTORY, bigFile: BIG_FILE, keepSource: true }
  })
}

/**
 * 1,000,000 files in 20,000 directories at scale 1, and with its 600 snapshots and 1.5 million blobs also the repository
 * that is 20 times as large as the standard one in everything that is read at start-up.
 */
export function makeLarge(dir: string, scale: number, options: MakeOptions): Manifest {
  const directories = Math.max(2, Math.round(20_000 * scale))
  const snapshots = Math.max(4, Math.round(600 * scale))
  return make(dir, `large seed=${options.seed} scale=${scale} v1`, options, (run, source) => {
    // The small snapshots come first, while restic has no large index to load: about 0.7 s each, nearly all key derivation.
    writeLargeTree(source, 1, 10, 0)
    for (let n = 0; n < snapshots - 2; n++) {
      writeLargeTree(source, 1, 1, -1 - n)
      run(['backup', '--quiet', '--host', 'bench', '--time', timeOf(snapshots - 1 - n), '.'], source)
      if ((n + 1) % 100 === 0) options.log(`${n + 1} small snapshots`)
    }
    options.log(`writing ${Math.ceil(directories / 2) * 50} files`)
    writeLargeTree(source, Math.ceil(directories / 2), 50, 1)
    run(['backup', '--quiet', '--host', 'bench', '--time', timeOf(1), '.'], source)
    options.log(`writing ${directories * 50} files`)
    writeLargeTree(source, directories, 50, 2)
    run(['backup', '--quiet', '--force', '--host', 'bench', '--time', timeOf(0), '.'], source)
    return { files: directories * 50, bytes: 0, snapshots, smallDirectory: null, bigFile: null, keepSource: false }
  })
}

type Fill = (run: (args: string[], cwd: string) => void, source: string) =>
  Pick<Manifest, 'files' | 'bytes' | 'snapshots' | 'smallDirectory' | 'bigFile'> & { keepSource: boolean }

function make(dir: string, recipe: string, options: MakeOptions, fill: Fill): Manifest {
  const existing = readManifest(dir)
  if (existing?.recipe === recipe) return existing
  rmSync(dir, { recursive: true, force: true })
  const source = join(dir, 'source')
  const repository = join(dir, 'repo')
  const passwordFile = join(dir, 'password')
  mkdirSync(source, { recursive: true })
  writeFileSync(passwordFile, PASSWORD + '\n')

  const started = Date.now()
  const run = (args: string[], cwd: string) => {
    const { status, error, stderr } = spawnSync(options.restic, ['--repo', repository, '--password-file', passwordFile, '--no-cache', ...args],
      { cwd, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8', env: { ...process.env, RESTIC_PROGRESS_FPS: '0.01' } })
    if (error !== undefined) throw error
    if (status !== 0) throw new Error(`${options.restic} ${args.join(' ')} failed with ${status}: ${stderr}`)
  }
  run(['init'], dir)
  const { keepSource, ...holds } = fill(run, source)
  if (!keepSource) rmSync(source, { recursive: true, force: true })

  const manifest: Manifest = {
    recipe, repository, passwordFile, source: keepSource ? source : null, ...holds,
    resticVersion: spawnSync(options.restic, ['version'], { encoding: 'utf8' }).stdout.trim(),
    secondsToMake: Math.round((Date.now() - started) / 1000),
  }
  writeFileSync(join(dir, 'manifest.json.new'), JSON.stringify(manifest, null, 2) + '\n')
  renameSync(join(dir, 'manifest.json.new'), join(dir, 'manifest.json'))
  return manifest
}
