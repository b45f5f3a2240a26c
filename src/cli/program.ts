import { Command, Option } from 'commander'
import { LAYOUTS } from '../mount/options.js'
import { version } from '../util/version.js'
import { EXIT_CODES_HELP, STATUS_EXIT_CODES_HELP } from './exit-codes.js'
import type { GlobalOptions } from './global-options.js'

/**
 * The command line. Everything behind a command is imported only when it is used: `daybook mount` should be on its way to the
 * repository within a tenth of a second.
 */
export function buildProgram(exit: (code: number) => void): Command {
  const program = new Command('daybook')
    .description('Every backup of a restic repository as a read-only directory tree, one directory per day.')
    .exitOverride()
    .configureOutput({ outputError: () => { /* main.ts reports it */ } })
    .configureHelp({ showGlobalOptions: true })
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'show the help of a command')
    .version(version(), '-V, --version', 'show the version')
  addGlobalOptions(program)
  program.addHelpText('after', `
Examples:
  daybook -r /srv/restic mount ~/backup            every backup, in the foreground until Ctrl-C
  daybook -r /srv/restic mount --daemon ~/backup   the same in the background
  cp -a ~/backup/latest/home/anna/letter.txt .
  daybook unmount ~/backup
${EXIT_CODES_HELP}`)

  const run = <A extends unknown[]>(action: (options: any, ...args: A) => Promise<number>) =>
    async (...args: unknown[]) => {
      const command = args.pop() as Command
      args.pop()
      exit(await action(command.optsWithGlobals(), ...args as A))
    }

  const mount = program.command('mount').argument('<dir>', 'an empty directory')
    .summary('show the backups as a directory tree')
    .description('Show every backup as a read-only directory tree at DIR, until it is unmounted, interrupted (Ctrl-C) or terminated.')
    .option('--daemon', 'go on in the background, and return when the mount is ready')
    .addOption(new Option('--layout <layout>', 'one directory per day, or as `restic mount`').choices(LAYOUTS).default('days'))
    .option('--snapshot <id>', 'show this snapshot only (repeat for several); "latest" is the newest', collect)
    .option('--subtree <path>', 'make this path inside each snapshot its root; nothing else can be reached')
    .option('--owner <uid:gid>', 'show everything as owned by this user and group (names or numbers)')
    .option('--allow-other', 'let other users in, as far as the permissions of the files go')
    .option('--poll <seconds>', 'look for new snapshots that often; 0: only on SIGHUP', '60')
    .option('--log-file <file>', 'with --daemon: log to this file')
    .action(run(async (options, dir: string) => (await import('./mount.js')).mountCommand(options, dir)))
  addFilters(mount)
  mount.addHelpText('after', `
Signals of the mount process:
  SIGINT, SIGTERM  unmount; if it is in use, take it out of the tree and serve what is open to its end. A second one stops at once.
  SIGHUP           look for new and forgotten snapshots now
  SIGUSR1          write counters into the log

Examples:
  daybook -r /srv/restic mount ~/backup
  daybook -r /srv/restic -p ~/.restic-password mount --daemon --host web1 ~/backup
  daybook -r /srv/restic mount --subtree /home/anna --owner anna --allow-other /home/anna/backup
  daybook -r sftp:backup:/srv/restic --replica s3:https://host/bucket mount ~/backup
  daybook -r /srv/restic mount --tag daily,database --tag weekly ~/backup   (daily and database) or weekly
${EXIT_CODES_HELP}`)

  program.command('unmount').alias('umount').argument('<dir>', 'where it is mounted')
    .summary('unmount')
    .description('Unmount a daybook mount, or the remains of one whose process died. Root may unmount all, others their own.')
    .option('--lazy', 'also if it is in use: take it out of the tree at once; what is open goes on being served')
    .option('--force', 'also if it is in use or hangs: what is open gets an error')
    .action(run(async (options, dir: string) => (await import('./unmount.js')).unmountCommand(options, dir)))
    .addHelpText('after', `
Examples:
  daybook unmount ~/backup
  daybook unmount --lazy ~/backup
${EXIT_CODES_HELP}`)

  const snapshots = program.command('snapshots').argument('[id...]', 'these only; "latest" is the newest')
    .summary('list the snapshots')
    .description('List the snapshots, oldest first, with the names they have in a mount with the same filters.')
    .action(run(async (options, ids: string[]) => (await import('./snapshots.js')).snapshotsCommand(options, ids)))
  addFilters(snapshots)
  snapshots.addHelpText('after', `
Examples:
  daybook -r /srv/restic snapshots
  daybook -r /srv/restic snapshots --host web1 --tag daily --json
${EXIT_CODES_HELP}`)

  const ls = program.command('ls').argument('<snapshot>', 'a day, an id or its beginning, or "latest"; with :PATH, what is there')
    .summary('list a directory of a snapshot')
    .description('List a directory of a snapshot without a mount. SNAPSHOT:PATH names a file or directory in it, PATH beginning at its root.')
    .option('-l, --long', 'with type, permissions, links, owner, size and time')
    .option('-R, --recursive', 'everything below, one path per line')
    .option('-0, --null', 'end each name with a NUL byte instead of a newline')
    .action(run(async (options, target: string) => (await import('./ls.js')).lsCommand(options, target)))
  addFilters(ls)
  ls.addHelpText('after', `
Names: on a terminal, what could harm it (control characters, bytes that are not UTF-8) and backslashes are shown as escapes (\\n, \\033);
in a pipe or file names are their bytes, unchanged. With --json, a name that is not UTF-8 has its bytes in "name_base64" beside it.

Examples:
  daybook -r /srv/restic ls latest
  daybook -r /srv/restic ls -l 2026-11-20:/home/anna
  daybook -r /srv/restic ls -R -0 4bba301e:/etc | xargs -0 -n1 echo
${EXIT_CODES_HELP}`)

  program.command('status').argument('[mountpoint]', 'this one only')
    .summary('see how the mounts are')
    .description('Show what the mounts of this user have to say: their snapshots, the disk cache, which locations answer, and what was found damaged.')
    .action(run(async (options, mountpoint?: string) => (await import('./status.js')).statusCommand(options, mountpoint)))
    .addHelpText('after', `
Mounts are asked at sockets in /run/daybook (root) or $XDG_RUNTIME_DIR/daybook; $DAYBOOK_RUNTIME_DIR names another directory, for \`mount\` and \`status\`.

With --json, one object: "ok" and "mounts". Of each mount: mountpoint, state (serving, leaving; dead, hung: its process has died or hangs; silent: it cannot be
asked), and, where it could be asked: ok, pid, version, repository, since, snapshots, newest {name, time}, cache {used_bytes, max_bytes},
locations [{location, state (up, down, refused), since, last_error {time, message}, answers, failures, overtaken, missing, damaged}],
damage {count, last [{file, location, reason, time, times}]}, errors {CODE: count}. What is not known is null; times are RFC 3339; fields may be added.

Examples:
  daybook status
  daybook status ~/backup
  daybook status --json | jq '.mounts[] | select(.ok | not)'
${STATUS_EXIT_CODES_HELP}`)

  program.command('init')
    .summary('make a new repository')
    .description('Make a new, empty restic repository at the place that -r names.')
    .option('--repository-version <format>', 'format of the repository: 1, 2, stable, latest', 'stable')
    .action(run(async options => (await import('./init.js')).initCommand(options)))
    .addHelpText('after', `
Examples:
  daybook -r /srv/restic init
  daybook -r s3:https://host/bucket -p ~/.restic-password init
${EXIT_CODES_HELP}`)

  const backup = program.command('backup').argument('[path...]', 'files and directories')
    .summary('save files and directories as a snapshot')
    .description('Save files and directories as a new snapshot. What an earlier snapshot of the same paths has, and is unchanged, is not read again.')
  addBackupOptions(backup)
  backup.action(run(async (options, paths: string[]) => (await import('./backup.js')).backupCommand(options, paths)))
  backup.addHelpText('after', `
Patterns of --exclude are restic's: * ? [a-z] within a name, ** for any number of names; one that begins with a slash is a whole path, others match
anywhere; ! in front takes back what was excluded before.

Examples:
  daybook -r /srv/restic backup /home /etc
  daybook -r /srv/restic backup --exclude '*.tmp' --exclude-caches --one-file-system /
  daybook -r /srv/restic backup --set-path files=/home/alice --set-path mails=/var/mail/alice --host web1
  pg_dump shop | daybook -r /srv/restic backup --stdin --stdin-filename shop.sql
  daybook -r /srv/restic backup --stdin-from-command --stdin-filename shop.sql -- pg_dump shop
  find /data -newer stamp -print0 | daybook -r /srv/restic backup --files-from-raw -
${EXIT_CODES_HELP}`)

  const forget = program.command('forget').argument('[id...]', 'remove these; without, what the --keep-* options do not keep')
    .summary('remove snapshots')
    .description('Remove snapshots: those named, or, in each group of snapshots of the same host and paths, those that no --keep-* option speaks for.')
  addForgetOptions(forget)
  addFilters(forget)
  forget.action(run(async (options, ids: string[]) => (await import('./forget.js')).forgetCommand(options, ids)))
  forget.addHelpText('after', `
Hours, days, weeks, months and years are those of the machine that was backed up. Options that look back do so from the newest snapshot of the group: where backups
have stopped, nothing expires. No rule removes the last complete snapshot of a group.

Tags that count, set with \`backup --tag\` or \`restic tag --add\`:
  locked                 not removed until the tag is taken off
  keep-until=2027-06-30  not removed before that day is over
  incomplete             something is missing in it: a complete one is not removed for its sake

Examples:
  daybook -r /srv/restic forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
  daybook -r /srv/restic forget --keep-days 30 --last-of-month 12 --last-of-year 3
  daybook -r /srv/restic forget --host web1 --tag daily --keep-last 10
  daybook -r /srv/restic forget 4bba301e
${EXIT_CODES_HELP}`)

  const key = program.command('key')
    .summary('who may open the repository: list, add, passwd, remove')
    .description('Manage the passwords that open the repository. Each has a key file of its own; what is stored stays as it is.')
  key.command('list').description('List the keys; that of the password given is marked.')
    .action(run(async options => (await import('./key.js')).keyListCommand(options)))
  addNewPassword(key.command('add').description('Let one more password open the repository.'))
    .action(run(async options => (await import('./key.js')).keyAddCommand(options)))
  addNewPassword(key.command('passwd').description('Replace the password given by another.'))
    .action(run(async options => (await import('./key.js')).keyPasswdCommand(options)))
  key.command('remove').argument('<id>', 'as `key list` shows it').description('Take a key away: its password opens the repository no more.')
    .option('--retry-lock <time>', 'wait that long for a locked repository (5m)')
    .action(run(async (options, id: string) => (await import('./key.js')).keyRemoveCommand(options, id)))
  key.addHelpText('after', `
Whoever has had a key may have kept what it opens: removing it keeps out who has only the password.

Examples:
  daybook -r /srv/restic key list
  daybook -r /srv/restic key add --user anna --new-password-file ~/anna
${EXIT_CODES_HELP}`)

  program.command('unlock')
    .summary('remove locks that were left behind')
    .description('Remove locks of processes that are gone, or that were not refreshed for half an hour.')
    .option('--remove-all', 'remove all locks, also of those at work: only if you know that nobody is')
    .action(run(async options => (await import('./unlock.js')).unlockCommand(options)))
    .addHelpText('after', EXIT_CODES_HELP)

  program.command('doctor')
    .summary('see whether this machine can mount')
    .description('Look at what a mount needs on this machine, and say how to mend what is missing. Exits with 1 if a mount cannot work.')
    .action(run(async options => (await import('./doctor.js')).doctorCommand(options)))
    .addHelpText('after', `
Examples:
  daybook doctor
  daybook doctor --json
${EXIT_CODES_HELP}`)
  return program
}

function addGlobalOptions(program: Command): void {
  const globals = [
    new Option('-r, --repo <repository>', 'where the repository is ($RESTIC_REPOSITORY)'),
    new Option('--repository-file <file>', 'file that says where the repository is ($RESTIC_REPOSITORY_FILE)'),
    new Option('--replica <repository>', 'another location of the same repository, asked when those before it fail, are slow or damaged (repeat for several; $DAYBOOK_REPLICAS, with spaces between)').argParser(collect),
    new Option('-p, --password-file <file>', 'file with the password ($RESTIC_PASSWORD_FILE)'),
    new Option('--password-command <command>', 'command that prints the password ($RESTIC_PASSWORD_COMMAND)'),
    new Option('--key-hint <id>', 'key to try first ($RESTIC_KEY_HINT)'),
    new Option('--insecure-no-password', 'the repository has an empty password'),
    new Option('--cache-dir <dir>', 'where local indexes and what was read from remotes are kept ($XDG_CACHE_HOME/daybook, ~/.cache/daybook; for root /var/cache/daybook)'),
    new Option('--cache-size <size>', 'of what was read from remotes, keep that much on disk, for all mounts of the cache directory together (500M, 20G; 0: keep no contents; default 5% of the file system, at most 20G)'),
    new Option('--no-cache', 'keep nothing of what was read from remotes on disk, but the local index'),
    new Option('-o, --option <key=value>', 'how to reach the repository: s3.region, s3.bucket-lookup, sftp.args; rest.connections, s3.connections, sftp.connections (repeat for several)').argParser(collect),
    new Option('--timeout <seconds>', 'give up a remote from which nothing comes for that long; 0: never').default('60'),
    new Option('--limit-download <KiB/s>', 'read no more than that'),
    new Option('--limit-upload <KiB/s>', 'write no more than that; accepted for the sake of scripts written for restic'),
    new Option('--cacert <file>', 'certificates to trust, PEM (repeat for several; $RESTIC_CACERT)').argParser(collect),
    new Option('--tls-client-cert <file>', 'certificate and key to show to the server, PEM ($RESTIC_TLS_CLIENT_CERT)'),
    new Option('--insecure-tls', 'do not check the certificate of the server'),
    new Option('-q, --quiet', 'say nothing that is not asked for'),
    new Option('-v, --verbose', 'say more; -vv: for finding faults').default(0, '').argParser((_, count: number) => count + 1),
    new Option('--json', 'for programs: JSON on standard output, errors as JSON'),
    new Option('--no-lock', 'accepted for the sake of scripts written for restic: what only reads never locks'),
  ]
  for (const option of globals) program.addOption(option)
}

function addBackupOptions(command: Command): void {
  command
    .option('-e, --exclude <pattern>', 'leave out what matches (repeat for several)', collect)
    .option('--iexclude <pattern>', 'the same, upper and lower case alike', collect)
    .option('--exclude-file <file>', 'patterns for --exclude, one per line (repeat for several)', collect)
    .option('--iexclude-file <file>', 'patterns for --iexclude', collect)
    .option('--exclude-if-present <name[:header]>', 'of directories with a file of this name (that begins so) save nothing but that file', collect)
    .option('--exclude-caches', 'the same for directories marked as caches (CACHEDIR.TAG)')
    .option('--exclude-larger-than <size>', 'leave out larger files (500M, 2G)')
    .option('-x, --one-file-system', 'stay on the file systems of the paths named')
    .option('--files-from <file>', 'paths to save, patterns allowed, one per line (repeat for several; - is standard input)', collect)
    .option('--files-from-verbatim <file>', 'the same, without patterns and comments', collect)
    .option('--files-from-raw <file>', 'the same, each ending with a NUL byte', collect)
    .option('--stdin', 'save what comes from standard input as one file')
    .option('--stdin-from-command', 'the arguments are a command: save what it writes to its standard output; if it fails, no snapshot is made')
    .option('--stdin-filename <name>', 'name of that file in the snapshot', 'stdin')
    .option('--set-path <name=path>', 'save this path under a name of its own at the root of the snapshot (repeat for several)', collect)
    .option('--tag <tag,...>', 'tags of the snapshot (repeat for several)', collect)
    .option('-H, --host <host>', 'host name of the snapshot ($RESTIC_HOST; default: of this machine)')
    .option('--time <time>', 'time of the snapshot (2026-11-20 13:47:00; default: now)')
    .option('--parent <id>', 'compare with this snapshot; "latest" is the newest (default: the newest of the same host and paths)')
    .option('-g, --group-by <words>', 'what makes a snapshot one to compare with: host, paths, tags', 'host,paths')
    .option('-f, --force', 'read all files, also those that seem unchanged')
    .option('-n, --dry-run', 'store nothing, and say what would be done')
    .option('--skip-if-unchanged', 'make no snapshot if it would be the same as the one compared with')
    .option('--ignore-ctime', 'a file with another ctime may be unchanged all the same ($RESTIC_IGNORE_CTIME)')
    .option('--ignore-inode', 'neither ctime nor inode number need to be the same ($RESTIC_IGNORE_INODE)')
    .addOption(new Option('--compression <how>', 'auto, off, max').choices(['auto', 'off', 'max']).env('RESTIC_COMPRESSION').default('auto'))
    .option('--no-extra-verify', 'do not read back what was encrypted before it is stored')
    .option('--retry-lock <time>', 'wait that long for a locked repository (5m)')
}

function addNewPassword(command: Command): Command {
  return command
    .option('--new-password-file <file>', 'file with the new password (default: ask)')
    .option('--new-insecure-no-password', 'the new password is empty')
    .option('--user <name>', 'note that it is the key of this user')
    .option('--host <name>', 'note that it is used on this machine')
    .option('--retry-lock <time>', 'wait that long for a locked repository (5m)')
}

/** Spelled as restic spells them; --keep-days, --last-of-month and --last-of-year are ours. */
function addForgetOptions(command: Command): void {
  command
    .option('-l, --keep-last <n>', 'keep the last n snapshots ("unlimited": all)')
    .option('-H, --keep-hourly <n>', 'keep the last of each of the last n hours that have snapshots')
    .option('-d, --keep-daily <n>', 'the same of days')
    .option('-w, --keep-weekly <n>', 'the same of weeks')
    .option('-m, --keep-monthly <n>', 'the same of months')
    .option('-y, --keep-yearly <n>', 'the same of years')
    .option('--keep-within <duration>', 'keep all that are younger than that (1y5m7d2h), seen from the newest')
    .option('--keep-within-hourly <duration>', 'of those, keep the last of each hour')
    .option('--keep-within-daily <duration>', 'the same of each day')
    .option('--keep-within-weekly <duration>', 'the same of each week')
    .option('--keep-within-monthly <duration>', 'the same of each month')
    .option('--keep-within-yearly <duration>', 'the same of each year')
    .option('--keep-tag <tag,...>', 'keep those with all these tags (repeat for alternatives)', collect)
    .option('--keep-days <n>', 'keep all of the n days before the day of the newest, and of that day')
    .option('--last-of-month <n>', 'keep the last complete snapshot of each of the n months before the present one, and of that one ("unlimited": of all)')
    .option('--last-of-year <n>', 'the same of years')
    .option('-g, --group-by <words>', 'apply that to each group by itself: host, paths, tags; \'\' for one group of all', 'host,paths')
    .option('--unsafe-allow-remove-all', 'without any --keep-*, and with --host, --tag or --path: remove all of these')
    .option('-c, --compact', 'print less')
    .option('-n, --dry-run', 'remove nothing, and say what would be removed')
    .option('--retry-lock <time>', 'wait that long for a locked repository (5m)')
}

function addFilters(command: Command): void {
  command
    .option('--host <host>', 'snapshots of this host only (repeat for several; $RESTIC_HOST)', collect)
    .option('--tag <tag,...>', 'snapshots with all these tags only (repeat for alternatives)', collect)
    .option('--path <path>', 'snapshots that include this path only (repeat for several, all of which must be included)', collect)
}

function collect(value: string, previous: string[] = []): string[] { return [...previous, value] }

export type { GlobalOptions }
