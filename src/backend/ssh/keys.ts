import { readFileSync } from 'node:fs'
import ssh2 from 'ssh2'
import type { AgentAuthMethod, BaseAgent, ParsedKey, PublicKeyAuthMethod } from 'ssh2'
import type { SshSettings } from './settings.js'

export interface Identities {
  /** in the order in which they are tried */
  readonly methods: (PublicKeyAuthMethod | AgentAuthMethod)[]
  /** what there was, for messages */
  readonly tried: string
}

/**
 * Key files first, then what an agent holds: a server lets go who has tried too many keys, and an agent may hold any number.
 * A key file with a passphrase is of use only through an agent.
 */
export function identities({ identityFiles, agent, identitiesOnly, user: username }: SshSettings): Identities {
  const methods: (PublicKeyAuthMethod | AgentAuthMethod)[] = []
  const files: string[] = []
  const chosen: Buffer[] = []
  for (const file of identityFiles) {
    const key = parse(file)
    if (key === null) {
      const publicKey = parse(`${file}.pub`)
      if (publicKey === null) continue
      chosen.push(publicKey.getPublicSSH())
      files.push(`${file} (has a passphrase, or cannot be read)`)
      continue
    }
    chosen.push(key.getPublicSSH())
    if (key.isPrivateKey()) methods.push({ type: 'publickey', username, key })
    files.push(file)
  }
  if (agent !== null) methods.push({ type: 'agent', username, agent: identitiesOnly ? new ChosenKeys(agent, chosen) : agent })
  const keys = files.length > 0 ? files.join(', ') : 'no key file'
  return { methods, tried: `${keys}; ${agent === null ? 'no agent' : `the agent at ${agent}`}` }
}

/** An agent that shows some of its keys only. */
class ChosenKeys extends ssh2.OpenSSHAgent {
  readonly #chosen: readonly Buffer[]

  constructor(socket: string, chosen: readonly Buffer[]) {
    super(socket)
    this.#chosen = chosen
  }

  override getIdentities(done: Parameters<BaseAgent<ParsedKey>['getIdentities']>[0]): void {
    super.getIdentities((error, keys) => done(error as Error, keys?.filter(key => this.#chosen.some(blob => blob.equals((key as ParsedKey).getPublicSSH())))))
  }
}

function parse(file: string): ParsedKey | null {
  try {
    const key = ssh2.utils.parseKey(readFileSync(file))
    return key instanceof Error ? null : key
  } catch {
    return null
  }
}
