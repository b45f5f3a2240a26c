import { isatty } from 'node:tty'
import type { Logger } from '../util/log.js'
import type { RunningMount } from './options.js'

/** Of a mount process; the CLI documents them. */
export const exitCodes = { failure: 1, cancelled: 130 } as const

export interface SignalOptions {
  readonly log: Logger
  /** SIGINT or SIGTERM came before there was a mount; must end the process */
  early(): void
  leaving(signal: string): void
  /** the mount was in use when told to leave */
  busy(): void
}

export interface Signals {
  /** from here on signals concern this mount */
  serving(mount: RunningMount): void
  /** give the signals back their default meaning */
  release(): void
  /** what the process should exit with if a signal ended it */
  exitCode(): number | null
}

/**
 * SIGINT, SIGTERM: unmount, or if the mount is in use take it out of the tree and serve what is open to its end; a second one ends it at once.
 * SIGHUP: look for new snapshots now; but if our terminal is gone, leave. SIGUSR1: counters into the log (and not Node's debugger, which would
 * let anybody who may send signals read the keys).
 */
export function handleSignals({ log, early, leaving: tellLeaving, busy }: SignalOptions): Signals {
  let mount: RunningMount | null = null
  let leaving = false
  let exitCode: number | null = null
  const hadTerminal = isatty(0)

  const leave = (signal: string) => {
    if (mount === null) return early()
    const current = mount
    if (leaving) {
      exitCode = exitCodes.cancelled
      log.warn('stopping at once', { signal, mountpoint: current.mountpoint })
      // The default meaning comes back: should a thread be stuck in the kernel, a third signal ends the process.
      release()
      current.stop().catch(error => log.error('cannot stop', { error })).finally(() => process.exit(exitCodes.cancelled))
      return
    }
    leaving = true
    exitCode = 0
    tellLeaving(signal)
    current.unmount().catch(error => { log.error('cannot unmount', { error }); return 'busy' as const }).then(outcome => {
      if (outcome !== 'busy') return
      current.detach()
      busy()
    })
  }
  const hangup = () => {
    if (hadTerminal && !isatty(0)) return leave('SIGHUP')
    log.info('looking for new snapshots', { signal: 'SIGHUP' })
    mount?.refresh().catch(error => log.warn('cannot look for new snapshots', { error }))
  }
  const stats = () => { if (mount !== null) log.info('counters', { ...mount.summary(), ...mount.stats?.(), rssBytes: process.memoryUsage.rss() }) }

  const handlers = { SIGINT: leave, SIGTERM: leave, SIGHUP: hangup, SIGUSR1: stats } as const
  for (const [signal, handler] of Object.entries(handlers)) process.on(signal, handler)
  const release = () => { for (const [signal, handler] of Object.entries(handlers)) process.off(signal, handler) }
  return { serving(serving) { mount = serving }, release, exitCode: () => exitCode }
}
