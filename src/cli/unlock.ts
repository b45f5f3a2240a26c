import { removeLocks } from '../repository/locks.js'
import { EXIT } from './exit-codes.js'
import type { GlobalOptions } from './global-options.js'
import { openWriter } from './open-writer.js'
import { Output } from './output.js'

/** Remove locks that nobody holds any more, or all. */
export async function unlockCommand(options: GlobalOptions & { removeAll?: boolean }): Promise<number> {
  const { access, reader: { log }, close } = await openWriter(options)
  try {
    const removed = await removeLocks(access, options.removeAll ?? false, (name, error) => log.warn(`lock ${name} cannot be read, and stays; --remove-all removes it too`, { error }))
    const output = new Output()
    if (options.json) output.write(JSON.stringify({ message_type: 'unlocked', removed }) + '\n')
    else if (!options.quiet && removed > 0) output.write(`successfully removed ${removed} lock${removed === 1 ? '' : 's'}\n`)
    output.flush()
    return EXIT.ok
  } finally { await close() }
}
