/**
 * What is said at the socket of a process: the client one line of JSON, the process one line, then it hangs up.
 *
 *   {"daybook":1,"ask":"status"}
 *   {"daybook":1,"status":{...}}          or {"daybook":1,"error":"..."}
 */
export const PROTOCOL = 1
export const MAX_REQUEST_BYTES = 4096
/** Of thousands of mounts. */
export const MAX_ANSWER_BYTES = 64 << 20

export interface Request { readonly daybook: number, readonly ask: string }

/** @returns what is asked for, or what is wrong with the line */
export function parseRequest(line: string): { readonly ask: string } | { readonly error: string } {
  let request: Partial<Request> | null
  try { request = JSON.parse(line) as Partial<Request> | null } catch { return { error: 'not a line of JSON' } }
  if (request?.daybook !== PROTOCOL) return { error: `not version ${PROTOCOL} of the protocol` }
  return typeof request.ask === 'string' ? { ask: request.ask } : { error: 'nothing is asked for' }
}

export function encodeLine(message: object): Buffer { return Buffer.from(JSON.stringify({ daybook: PROTOCOL, ...message }) + '\n') }
