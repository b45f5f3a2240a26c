import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { makeLarge, makeStandard, type MakeOptions } from './bench-repo.js'

const HELP = `usage: scripts/bench/make-repo [options]

Makes the repository that the benchmarks read, with the real restic, or reuses the one made before.

  --dir DIR        where it goes (default: $DAYBOOK_BENCH_DIR, else /var/tmp/daybook-bench)
  --scale N        1 is 57,000 files, 2.4 GB (default); 0.01 is enough to try the benchmarks
  --snapshots N    number of snapshots (default: 30)
  --million        1,000,000 files in 20,000 directories and 600 snapshots instead (--scale applies)
  --20x            the same repository: it is also 20 times as large in everything that is read at start-up
  --seed N         another tree of the same shape (default: 1)
  --restic PATH    restic to make it with (default: $RESTIC, else restic)
`

const { values } = parseArgs({
  options: {
    dir: { type: 'string' }, scale: { type: 'string', default: '1' }, snapshots: { type: 'string', default: '30' }, million: { type: 'boolean' },
    '20x': { type: 'boolean' }, seed: { type: 'string', default: '1' }, restic: { type: 'string' }, help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}

const base = values.dir ?? process.env.DAYBOOK_BENCH_DIR ?? '/var/tmp/daybook-bench'
const scale = Number(values.scale)
const started = Date.now()
const options: MakeOptions = {
  restic: values.restic ?? process.env.RESTIC ?? 'restic',
  seed: Number(values.seed),
  log: line => console.log(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${line}`),
}
const suffix = scale === 1 ? '' : `-${scale}`
const large = values.million || values['20x']
const dir = join(base, (large ? 'large' : 'standard') + suffix)
const manifest = await (large ? makeLarge(dir, scale, options) : makeStandard(dir, scale, Number(values.snapshots), options))
console.log(`${dir}: ${manifest.files} files, ${(manifest.bytes / 1e9).toFixed(2)} GB, ${manifest.snapshots} snapshots, made in ${manifest.secondsToMake} s by ${manifest.resticVersion}`)
