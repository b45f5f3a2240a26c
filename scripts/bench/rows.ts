import type { Manifest } from './bench-repo.js'
import { timed } from './timed.js'

/** What a row has to reach, as our speed divided by restic's. */
export interface Bars {
  readonly cold: number
  readonly warm: number | null
}

export interface Row {
  readonly key: string
  readonly title: string
  /** 's': less is better; '/s': more is better */
  readonly unit: 's' | '/s'
  readonly bars: Bars
  readonly limitSeconds: number
  /** `ls` of a fresh mount; the harness times from the start of the process. */
  readonly isStart?: boolean
  /** `warm` is not measured: the row stands for itself. */
  readonly coldOnly?: boolean
  /** @returns the figure, in `unit`. `root` is the newest snapshot, `scratch` an empty directory on tmpfs. */
  run(root: string, scratch: string, manifest: Manifest): Promise<number>
}

/** Seconds of random reading; a number of reads fixed for both would take restic minutes or us no time at all. */
const RANDOM_SECONDS = 10

async function seconds(command: string, args: string[], limitSeconds: number): Promise<number> {
  return (await timed(command, args, limitSeconds)).seconds
}

async function randomReads(file: string, depth: number): Promise<number> {
  // Depth by threads, each with one read under way: FUSE serves libaio's buffered reads one after the other.
  const { output } = await timed(
    'fio --name=random --filename="$1" --readonly --rw=randread --bs=4k --ioengine=psync --thread --numjobs="$2" --group_reporting ' +
    '--time_based --runtime="$3" --norandommap --randrepeat=1 --invalidate=0 --fadvise_hint=0 --output-format=json',
    [file, String(depth), String(RANDOM_SECONDS)], RANDOM_SECONDS + 60)
  return (JSON.parse(output.slice(output.indexOf('{'))) as { jobs: { read: { iops: number } }[] }).jobs[0].read.iops
}

export const ROWS: readonly Row[] = [
  {
    key: 'start', title: 'start to first ls', unit: 's', bars: { cold: 1, warm: 1 }, limitSeconds: 60, isStart: true,
    run: root => seconds('ls "$1/" > /dev/null', [root], 60),
  },
  {
    key: 'find', title: 'find', unit: 's', bars: { cold: 5, warm: 10 }, limitSeconds: 300,
    run: root => seconds('find "$1/" > /dev/null', [root], 300),
  },
  {
    key: 'ls', title: 'ls -lR', unit: 's', bars: { cold: 8, warm: 12 }, limitSeconds: 600,
    run: root => seconds('ls -lR "$1/" > /dev/null', [root], 600),
  },
  {
    key: 'cp', title: 'cp -r of the small files to tmpfs', unit: 's', bars: { cold: 8, warm: 10 }, limitSeconds: 300,
    run: (root, scratch, { smallDirectory }) => seconds('cp -r "$1" "$2/copy"', [`${root}/${smallDirectory}`, scratch], 300),
  },
  {
    key: 'tar', title: 'tar of everything through a pipe', unit: 's', bars: { cold: 8, warm: 12 }, limitSeconds: 900,
    run: root => seconds('tar -C "$1" -cf - . | cat > /dev/null', [root], 900),
  },
  {
    key: 'dd', title: 'dd bs=1M of the large file', unit: 's', bars: { cold: 4, warm: 25 }, limitSeconds: 300,
    run: (root, _scratch, { bigFile }) => seconds('dd if="$1" of=/dev/null bs=1M 2> /dev/null', [`${root}/${bigFile}`], 300),
  },
  {
    key: 'random1', title: `4 KiB random reads, depth 1, ${RANDOM_SECONDS} s`, unit: '/s', bars: { cold: 10, warm: null }, limitSeconds: 120, coldOnly: true,
    run: (root, _scratch, { bigFile }) => randomReads(`${root}/${bigFile}`, 1),
  },
  {
    key: 'random16', title: `4 KiB random reads, depth 16, ${RANDOM_SECONDS} s`, unit: '/s', bars: { cold: 10, warm: null }, limitSeconds: 120, coldOnly: true,
    run: (root, _scratch, { bigFile }) => randomReads(`${root}/${bigFile}`, 16),
  },
]
