import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir, userInfo } from 'node:os'
import { promisify } from 'node:util'
import { DaybookError } from '../../errors.js'
import type { SftpLocation } from '../sftp-location.js'

/** How ssh would connect. */
export interface SshSettings {
  readonly hostName: string
  readonly port: number
  readonly user: string
  /** those that exist or not, in the order in which they are tried */
  readonly identityFiles: readonly string[]
  /** socket of the agent */
  readonly agent: string | null
  /** of the agent's keys, only those of the identity files */
  readonly identitiesOnly: boolean
  /** the user's first, which new keys go to */
  readonly knownHostsFiles: readonly string[]
  /** refuse: only hosts that are known · add: trust a host that was never seen, and remember it */
  readonly unknownHosts: 'refuse' | 'add'
  /** the name to look for among the known hosts */
  readonly knownAs: string
  /** command line for a shell, whose standard input and output are the connection */
  readonly proxyCommand: string | null
}

/**
 * Ask ssh itself what its configuration means for a host (`ssh -G`): aliases, includes and conditions are its own business.
 * @param args ssh's options, as with restic's sftp.args
 * @throws DaybookError ERR_USAGE: ssh does not like them
 */
export async function sshSettings({ host, user, port }: SftpLocation, args: readonly string[]): Promise<SshSettings> {
  const login = [...port === null ? [] : ['-p', String(port)], ...user === null ? [] : ['-l', user]]
  try {
    const { stdout } = await promisify(execFile)('ssh', ['-G', ...login, ...args, '--', host], { timeout: 20_000, maxBuffer: 4 << 20 })
    return settingsOf(parseSettings(stdout), args)
  } catch (cause) {
    const { code, stderr } = cause as NodeJS.ErrnoException & { stderr?: string }
    if (cause instanceof DaybookError) throw cause
    if ((cause as { killed?: boolean }).killed) throw new DaybookError('ERR_UNREACHABLE', `ssh does not say what its configuration means for ${host}`, undefined, { cause })
    if (code === 'ENOENT') return withoutSsh({ host, user, port }, args)
    throw new DaybookError('ERR_USAGE', `ssh does not accept its configuration for ${host}: ${(stderr ?? '').trim().split('\n').at(-1)}`, `see: ssh -G ${[...login, ...args, host].join(' ')}`, { cause })
  }
}

/** Lines of "keyword value"; a keyword may come several times. */
function parseSettings(text: string): Map<string, string[]> {
  const settings = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    const space = line.indexOf(' ')
    if (space < 0) continue
    const keyword = line.slice(0, space).toLowerCase()
    settings.set(keyword, [...settings.get(keyword) ?? [], line.slice(space + 1)])
  }
  return settings
}

function settingsOf(settings: ReadonlyMap<string, readonly string[]>, args: readonly string[]): SshSettings {
  const one = (keyword: string) => settings.get(keyword)?.[0] ?? null
  const hostName = one('hostname')!
  const port = Number(one('port'))
  const user = one('user')!
  const alias = one('hostkeyalias')
  const files = [one('userknownhostsfile'), one('globalknownhostsfile')].flatMap(list => list?.split(' ') ?? [])
  const strict = one('stricthostkeychecking') ?? 'ask'
  return {
    hostName, port, user,
    identityFiles: (settings.get('identityfile') ?? []).map(expand),
    agent: agentOf(one('identityagent')),
    identitiesOnly: one('identitiesonly') === 'yes',
    knownHostsFiles: files.filter(file => file !== 'none').map(expand),
    // Nobody is there to be asked.
    unknownHosts: ['no', 'off', 'false', 'accept-new'].includes(strict) ? 'add' : 'refuse',
    knownAs: alias ?? nameOf(hostName, port),
    proxyCommand: proxyOf(one('proxycommand'), one('proxyjump'), { hostName, port, user }, args),
  }
}

/** What ssh does without any configuration. */
function withoutSsh({ host, user, port }: Pick<SftpLocation, 'host' | 'user' | 'port'>, args: readonly string[]): SshSettings {
  if (args.length > 0 || existsSync(expand('~/.ssh/config'))) {
    throw new DaybookError('ERR_UNSUPPORTED', 'ssh is not installed, and nothing else can read its configuration', 'install it: apt-get install openssh-client')
  }
  return {
    hostName: host, port: port ?? 22, user: user ?? userInfo().username, identityFiles: ['id_rsa', 'id_ecdsa', 'id_ed25519'].map(name => expand(`~/.ssh/${name}`)),
    agent: agentOf(null), identitiesOnly: false, knownHostsFiles: [expand('~/.ssh/known_hosts'), '/etc/ssh/ssh_known_hosts'], unknownHosts: 'refuse',
    knownAs: nameOf(host, port ?? 22), proxyCommand: null,
  }
}

/** As known_hosts has it. */
function nameOf(host: string, port: number): string {
  return port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`
}

function agentOf(setting: string | null): string | null {
  if (setting === 'none') return null
  if (setting === null || setting === 'SSH_AUTH_SOCK') return process.env.SSH_AUTH_SOCK || null
  if (setting.startsWith('$')) return process.env[setting.slice(1).replace(/[{}]/g, '')] || null
  return expand(setting)
}

function proxyOf(command: string | null, jump: string | null, { hostName, port, user }: Pick<SshSettings, 'hostName' | 'port' | 'user'>, args: readonly string[]): string | null {
  if (jump !== null && jump !== 'none') {
    const hops = jump.split(',')
    const last = hops.pop()!
    const config = args.indexOf('-F')
    const words = ['ssh', ...config < 0 ? [] : args.slice(config, config + 2), ...hops.length > 0 ? ['-J', hops.join(',')] : [], '-W', `[${hostName}]:${port}`, '--', last.startsWith('ssh://') ? last : `ssh://${last}`]
    return words.map(word => `'${word.replaceAll('\'', `'\\''`)}'`).join(' ')
  }
  if (command === null || command === 'none') return null
  return command.replace(/%([hnpr%])/g, (_, token: string) => ({ h: hostName, n: hostName, p: String(port), r: user, '%': '%' })[token]!)
}

function expand(path: string): string {
  return path.replace(/^~(?=\/|$)/, () => homedir()).replace(/%([dui%])/g, (_, token: string) => ({ d: homedir(), u: userInfo().username, i: String(process.getuid!()), '%': '%' })[token]!)
}
