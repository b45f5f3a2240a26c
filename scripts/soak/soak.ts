import { MountCase } from '../../test/fixtures/mount-case.js'
import { seeded } from '../../test/fixtures/seeded.js'

/** One long run: how long, from which seed, and a place that is cleaned up at the end, also behind Ctrl-C. */
export interface Soak {
  readonly place: MountCase
  readonly random: () => number
  /** false when the time is over or somebody wants to stop */
  goesOn(): boolean
  say(line: string): void
  fail(what: string, problems: readonly string[]): void
}

/** `node dist/scripts/soak/NAME.js [MINUTES]`, with $SEED to repeat a run. Exits with 1 if anything failed. */
export async function soak(name: string, work: (soak: Soak) => Promise<void>): Promise<void> {
  const minutes = Number(process.argv[2] ?? 60)
  if (!(minutes > 0)) throw new Error(`usage: soak/${name} [MINUTES]`)
  const { seed, random } = seeded()
  const say = (line: string) => console.log(`${new Date().toISOString().slice(11, 19)}  ${line}`)
  const teardowns: (() => void | Promise<void>)[] = []
  let failures = 0, stopped = false
  const end = Date.now() + minutes * 60_000
  const stop = () => { stopped = true }
  process.on('SIGINT', stop).on('SIGTERM', stop)
  const place = new MountCase({
    teardown: (handler: () => void | Promise<void>) => { teardowns.push(handler) }, passing: () => failures === 0, comment: (text: string) => say(text),
  } as ConstructorParameters<typeof MountCase>[0], `soak-${name}`)
  say(`SEED=${seed}, ${minutes} minutes`)
  try {
    await work({
      place, random, say,
      goesOn: () => !stopped && Date.now() < end,
      fail(what, problems) {
        failures++
        say(`FAILED ${what}`)
        for (const problem of problems) say(`       ${problem}`)
      },
    })
  } finally {
    for (const teardown of teardowns.reverse()) await teardown()
  }
  say(failures === 0 ? 'nothing failed' : `${failures} failures, SEED=${seed}`)
  process.exitCode = failures === 0 ? 0 : 1
}
