import { parseLocation } from '../backend/location.js'
import { openWritable } from '../backend/open-backend.js'
import { DaybookError } from '../errors.js'
import { initRepository } from '../repository/init.js'
import { resolveLocation, resolvePassword } from '../repository/password.js'
import { createLogger } from '../util/log.js'
import { askNewPassword } from './ask-new-password.js'
import { backendOptions } from './backend-options.js'
import { EXIT } from './exit-codes.js'
import type { GlobalOptions } from './global-options.js'
import { Output } from './output.js'

export interface InitCommandOptions extends GlobalOptions {
  repositoryVersion: string
}

/** Make a new repository. */
export async function initCommand(options: InitCommandOptions): Promise<number> {
  const version = { 1: 1, 2: 2, stable: 2, latest: 2 }[options.repositoryVersion] as 1 | 2 | undefined
  if (version === undefined) throw new DaybookError('ERR_USAGE', `--repository-version ${options.repositoryVersion}: not a format`, '1, 2, stable or latest')
  const location = parseLocation(await resolveLocation(options))
  const log = createLogger({ level: options.verbose > 0 ? 'debug' : 'warn', json: options.json, write: line => { process.stderr.write(line) } })
  const backend = await openWritable(location, backendOptions(options), log)
  try {
    const password = await resolvePassword(options) ?? await askNewPassword('enter password for new repository: ')
    try {
      const { id } = await initRepository(backend, password, { version })
      const output = new Output()
      if (options.json) output.write(JSON.stringify({ message_type: 'initialized', id, repository: location.display }) + '\n')
      else if (!options.quiet) output.write(`created restic repository ${id.slice(0, 10)} at ${location.display}\nWithout its password nobody can read it, you neither: keep it in a safe place.\n`)
      output.flush()
      return EXIT.ok
    } finally {
      password.fill(0)
    }
  } finally {
    await backend.close()
  }
}
