import type { Counted } from './schema.js'

/** What an index file says: the part of IndexFile (format/index-file.ts) that is stored. */
export interface IndexRecords {
  readonly packs: Uint8Array
  readonly toDelete: Uint8Array
  readonly blobs: Uint8Array
  readonly treeCount: number
}

/** What the worker is asked to do, one at a time. Ids, names and rows travel side by side in buffers which are handed over, not copied. */
export type Job =
  | { kind: 'addIndexFile', name: Uint8Array } & IndexRecords
  | { kind: 'addPackHeader', name: Uint8Array, /** 32 bytes each */ ids: Uint8Array, /** per blob: 1 for a tree, offset, length, plain length */ fields: Float64Array }
  | { kind: 'removeIndexFiles', names: Uint8Array }
  | { kind: 'removePacks', names: Uint8Array }
  | { kind: 'putRows', ids: Uint8Array, /** lengths of the rows */ lengths: Float64Array, rows: Uint8Array }
  | { kind: 'deleteRows', ids: Uint8Array }
  | { kind: 'markPackTried', pack: number }
  | { kind: 'putSnapshots', added: [name: string, json: string][], removed: string[] }
  | { kind: 'putDayNames', view: string, names: [snapshot: string, name: string][] }
  | { kind: 'check' }
  | { kind: 'close' }

/** `error`: what is left of an error between threads */
export type Answer = { error?: { message: string, code?: string } }

export interface WorkerData {
  file: string
  /** of the file which the main side has open */
  identity: string
}

/** Changes of a transaction to the counts in meta. */
export type Counts = Partial<Record<Counted, number>>
