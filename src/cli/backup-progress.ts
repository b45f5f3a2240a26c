import type { BackupResult } from '../archiver/backup.js'
import type { Stats } from '../archiver/stats.js'
import type { GlobalOptions } from './global-options.js'
import { Output } from './output.js'
import { printable, printableName } from './printable.js'
import { Progress } from './progress.js'
import { formatBytes, formatSeconds } from './values.js'

const LOOK_MS = 250
/** restic's: not more than one a second where nobody looks at a terminal, unless $RESTIC_PROGRESS_FPS says otherwise */
const STATUS_MS = 1000

/** What is said while a backup is made, and at its end: lines for people, or with --json messages as restic's. */
export class BackupProgress {
  /** what could not be read, or was not there */
  errors = 0
  readonly #options: GlobalOptions
  readonly #line: Progress
  readonly #started = performance.now()
  #timer: NodeJS.Timeout | null = null

  constructor(options: GlobalOptions) {
    this.#options = options
    this.#line = new Progress({ quiet: options.quiet || options.json })
  }

  start(stats: Stats): void {
    const look = this.#options.json ? () => this.#status(stats) : () => this.#line.update(this.#describe(stats))
    this.#timer = setInterval(look, this.#options.json ? statusMs() : LOOK_MS).unref()
  }

  failed(error: Error, path?: Buffer): void {
    this.errors++
    if (this.#options.json) {
      process.stderr.write(JSON.stringify({ message_type: 'error', error: { message: error.message }, during: 'archival', item: path?.toString() ?? '' }) + '\n')
    } else {
      this.#line.done()
      const named = path === undefined || error.message.includes(path.toString()) ? '' : `${printableName(path)}: `
      process.stderr.write(`daybook: ${named}${printable(error.message)}\n`)
    }
  }

  excluded(path: Buffer): void {
    if (this.#options.verbose < 2) return
    if (this.#options.json) this.#print({ message_type: 'excluded_item', item: path.toString() })
    else process.stderr.write(`excluded ${printableName(path)}\n`)
  }

  /** For those who asked for more. */
  say(text: string): void {
    if (this.#options.verbose > 0 && !this.#options.json) process.stderr.write(`${text}\n`)
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#line.done()
  }

  finish({ snapshot, stats, summary, tree }: BackupResult, dryRun: boolean): void {
    this.stop()
    const seconds = (performance.now() - this.#started) / 1000
    if (this.#options.json) {
      this.#print({
        message_type: 'summary', ...summary, total_duration: seconds, snapshot_id: snapshot ?? undefined, dry_run: dryRun || undefined,
      })
      return
    }
    if (this.#options.quiet) return
    const { files, dirs } = stats
    const verb = dryRun ? 'Would add' : 'Added'
    const counts = (of: Stats['files']) => `${of.new} new, ${of.changed} changed, ${of.unmodified} unmodified`
    const output = new Output()
    output.write(`Files:        ${counts(files)}\nDirectories:  ${counts(dirs)}\n`)
    output.write(`${verb}:${' '.repeat(13 - verb.length)}${formatBytes(stats.added)} (${formatBytes(stats.stored)} stored)\n`)
    output.write(`Processed:    ${stats.processedFiles} files, ${formatBytes(stats.processedBytes)} in ${formatSeconds(seconds)}\n`)
    output.write(snapshot !== null ? `snapshot ${snapshot.slice(0, 8)} saved\n` : dryRun ? `no snapshot was made: its tree would be ${tree.slice(0, 8)}\n` : 'no snapshot was made: nothing has changed\n')
    output.flush()
  }

  #describe({ processedFiles, processedBytes, stored }: Stats): string {
    const seconds = (performance.now() - this.#started) / 1000
    return `${processedFiles} files, ${formatBytes(processedBytes)}, ${formatBytes(processedBytes / seconds)}/s, ${formatBytes(stored)} stored`
  }

  #status({ processedFiles, processedBytes, errors }: Stats): void {
    const seconds = Math.floor((performance.now() - this.#started) / 1000)
    this.#print({ message_type: 'status', seconds_elapsed: seconds || undefined, percent_done: 0, files_done: processedFiles || undefined, bytes_done: processedBytes || undefined, error_count: errors || undefined })
  }

  #print(message: object): void { process.stdout.write(JSON.stringify(message) + '\n') }
}

function statusMs(): number {
  const rate = Number(process.env.RESTIC_PROGRESS_FPS)
  return rate > 0 ? Math.max(1000 / 60, 1000 / rate) : STATUS_MS
}
