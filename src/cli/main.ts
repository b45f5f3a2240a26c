import { CommanderError } from 'commander'
import { DaybookError } from '../errors.js'
import { EXIT } from './exit-codes.js'
import { buildProgram } from './program.js'
import { reportError } from './report-error.js'

const OLDEST_NODE = 20

/** Run one command. @returns the exit code */
async function main(argv: readonly string[]): Promise<number> {
  if (Number(process.versions.node.split('.')[0]) < OLDEST_NODE) {
    throw new DaybookError('ERR_UNSUPPORTED', `node ${process.versions.node} is too old`, `daybook needs node ${OLDEST_NODE} or later`)
  }
  let exitCode: number = EXIT.ok
  const program = buildProgram(code => { exitCode = code })
  try {
    await program.parseAsync(argv, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // Asked for and printed: --help, --version.
    if (error.exitCode === 0) return EXIT.ok
    // The help itself was printed, since no command was given.
    if (error.code === 'commander.help') return EXIT.usage
    throw usageError(error)
  }
  return exitCode
}

/** "error: unknown option '--jsno'\n(Did you mean --json?)" as an error of ours. */
function usageError({ message }: CommanderError): DaybookError {
  const [fact, suggestion] = message.replace(/^error: /, '').split('\n')
  return new DaybookError('ERR_USAGE', fact, suggestion?.replace(/^\((.*)\)$/, '$1') ?? 'daybook --help shows what there is, daybook COMMAND --help how to use it')
}

// `daybook ls ... | head` is no failure; ended as every other program ends then.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? EXIT.brokenPipe : EXIT.failure))

// Who closes the terminal must not end a mount by it.
process.stderr.on('error', () => {})

const argv = process.argv.slice(2)
const debug = process.env.DAYBOOK_DEBUG !== undefined || argv.some(arg => /^-[a-zA-Z]*v[a-zA-Z]*v/.test(arg)) || argv.filter(arg => arg === '-v' || arg === '--verbose').length > 1
process.exit(await main(argv).catch(error => reportError(error, { json: argv.includes('--json'), debug })))
