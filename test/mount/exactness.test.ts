import { rmSync } from 'node:fs'
import t from 'tap'
import { MIB } from '../fixtures/every-kind.js'
import { everything, exactness, Original, type Left } from '../fixtures/exactness.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { findRestics } from '../fixtures/restic.js'
import { tier } from '../fixtures/tiers.js'

// What several restics recorded, in both formats, comes back exactly. Through remotes: remotes.test.ts.
t.setTimeout(900_000)

const SPARSE_LENGTH = Number(process.env['DAYBOOK_SPARSE_GB'] ?? 10) * 1024 * MIB
/** 0.14 is what Debian 12 has, 0.18 Debian 13: they write differently. */
const SERIES = ['0.14', '0.18', '0.19']
const SPARSE: Left = { exclude: 'holes/sparse', paths: /^holes\/sparse$/ }
const LARGE: Left = { exclude: 'large', paths: /^large(\/|$)/ }
/** nine of ten */
const CROWD: Left = { exclude: 'crowd/*[1-9]', paths: /^crowd\/.*[1-9]$/ }

if (mountTier(t)) await main()

async function main(): Promise<void> {
  const restics = findRestics()
  for (const series of SERIES) tier(t, `restic-${series}`, restics.some(restic => restic.series === series) || `no restic ${series} found`)
  const known = restics.filter(({ series }) => SERIES.includes(series))
  // Format 1 by the oldest, format 2 by each; without any of the known ones, whatever is installed.
  const combinations = (known.length ? known : restics.slice(-1)).flatMap((restic, n) => (n === 0 ? [1, 2] as const : [2] as const).map(format => ({ restic, format })))

  const place = new MountCase(t, 'db')
  const original = await Original.make(place.path('s'), { sparseLength: SPARSE_LENGTH })
  t.comment(`${original.entries.length} entries`)
  // For the time it takes: the big sparse file is for the last one only; rsync, tar, remounts and what is merely much are for the first and the last, that is
  // for both formats, but remounts look at 50,000 entries in one directory in the last one, at 5000 in the first. $DAYBOOK_EXACTNESS=all leaves nothing out.
  for (const combination of combinations) {
    const { restic, format } = combination
    const isFirst = combination === combinations[0], isLast = combination === combinations.at(-1)
    const left = isLast || everything ? [] : isFirst ? [SPARSE] : [SPARSE, LARGE, CROWD]
    await t.test(`restic ${restic.version}, format ${format}`, async t => {
      const repository = await place.repository({ restic, format })
      await repository.backup([original.dir], { args: left.map(({ exclude }) => `--exclude=${original.dir}/${exclude}`) })
      await exactness(t, original, {
        restic, mount: cacheDir => place.mount(repository, { cacheDir }), cacheDir: `${repository.dir}-cache-of-daybook`,
        left, thorough: isFirst || isLast || everything, known: isLast || everything ? undefined : CROWD.paths,
      })
      rmSync(repository.dir, { recursive: true })
    })
  }
}
