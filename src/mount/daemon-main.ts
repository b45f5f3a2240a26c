import { readFileSync } from 'node:fs'
import { createLogger } from '../util/log.js'
import type { DaemonOrder } from './daemon.js'
import { logWriter } from './log-file.js'
import { ReadyPipe } from './ready.js'
import { runMount } from './run-mount.js'

/** The mount process in the background: its order comes through standard input, its outcome goes out through the ready pipe, its log to descriptor 2. */
async function main(): Promise<number> {
  const text = readFileSync(0, 'utf8')
  // The parent went away while it asked for the password.
  if (text === '') return 1
  const { options, repository, logLevel, logJson } = JSON.parse(text) as DaemonOrder
  const { password, ...access } = repository
  const log = createLogger({ level: logLevel, json: logJson, write: logWriter(2) })
  const pipe = new ReadyPipe()
  try {
    return await runMount({
      ...options, log, repository: { ...access, password: async () => Buffer.from(password, 'base64') },
      progress: (stage, done, total) => pipe.tell({ type: 'progress', stage, done, total }),
    }, event => {
      const { type, ...fields } = event
      if (type === 'busy') log.warn('in use: taken out of the tree, still serving what is open', fields)
      else log.info(type, type === 'ready' ? { ...fields, repository: repository.location.display, pid: process.pid } : fields)
      // Behind the log line: whoever is told may look into the log.
      if (type === 'ready') pipe.tell(event)
    })
  } catch (error) {
    log.error('cannot mount', { mountpoint: options.mountpoint, reason: (error as Error).message })
    pipe.fail(error)
    return 1
  }
}

process.exit(await main())
