import { unmountPath } from '../mount/unmount.js'
import { DaybookError } from '../errors.js'
import { EXIT } from './exit-codes.js'
import type { GlobalOptions } from './global-options.js'
import { printable } from './printable.js'

export async function unmountCommand(options: GlobalOptions & { lazy?: boolean, force?: boolean }, dir: string): Promise<number> {
  if (options.lazy && options.force) throw new DaybookError('ERR_USAGE', '--lazy and --force exclude one another')
  const { mountpoint, wasDead } = await unmountPath(dir, options.force ? 'force' : options.lazy ? 'lazy' : 'plain')
  if (options.json) process.stdout.write(JSON.stringify({ message_type: 'unmounted', mountpoint, was_dead: wasDead }) + '\n')
  else if (!options.quiet) process.stdout.write(`unmounted ${printable(mountpoint)}${wasDead ? ' (its process had died)' : ''}\n`)
  return EXIT.ok
}
