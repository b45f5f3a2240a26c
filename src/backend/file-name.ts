import type { Handle } from './backend.js'

const NAMES = { keys: 'key', snapshots: 'snapshot', index: 'index file', data: 'pack', locks: 'lock' } as const

/** What a file of the repository is called in messages. */
export function fileName({ type, name }: Handle): string {
  return type === 'config' ? 'config' : `${NAMES[type]} ${name}`
}
