/** What a caller can act on. Messages: subject, id, fact; lower case, no full stop. */
export type ErrorCode =
  | 'ERR_NOT_FOUND' | 'ERR_CORRUPT' | 'ERR_UNREACHABLE' | 'ERR_ABORTED'
  | 'ERR_WRONG_PASSWORD' | 'ERR_NO_REPOSITORY' | 'ERR_UNSUPPORTED' | 'ERR_USAGE' | 'ERR_INDEX' | 'ERR_LOCKED'

/** Base of all errors of daybook. `retryable`: the same call may succeed later; decided where the fault is seen. */
export class DaybookError extends Error {
  override readonly name: string = 'DaybookError'
  constructor(readonly code: ErrorCode, message: string, readonly hint?: string, options?: ErrorOptions) { super(message, options) }
  get retryable(): boolean { return this.code === 'ERR_UNREACHABLE' }
}

/** A file or blob of the repository that does not exist. */
export class NotFoundError extends DaybookError {
  override readonly name = 'NotFoundError'
  constructor(readonly file: string, options?: ErrorOptions) { super('ERR_NOT_FOUND', `${file} does not exist`, undefined, options) }
}

/** Stored bytes that are not what they must be. */
export class CorruptError extends DaybookError {
  override readonly name = 'CorruptError'
  constructor(readonly file: string, readonly reason: string, options?: ErrorOptions) { super('ERR_CORRUPT', `corrupt ${file}: ${reason}`, undefined, options) }
}

/** What a log line says of an error to programs: its code, and which file of the repository is damaged, if that is it. */
export function faultFields(error: unknown): { readonly code: string | undefined, readonly damaged?: string } {
  let damaged: string | undefined
  // The innermost one speaks of what is stored, those around it of what was to be made of it.
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof CorruptError) damaged = cause.file
  return { code: (error as { code?: string } | null)?.code, ...damaged === undefined ? {} : { damaged } }
}

/** The system does not let this user read or write a file. Asking again does not help. */
export class AccessError extends DaybookError {
  override readonly name = 'AccessError'
  constructor(readonly file: string, hint: string, options?: ErrorOptions, verb = 'read') { super('ERR_UNREACHABLE', `no permission to ${verb} ${file}`, hint, options) }
  override get retryable(): boolean { return false }
}

/** The other side answers, but is not to be used as it is: a certificate or host key nobody vouches for, an answer that makes no sense. Asking again does not help. */
export class RefusedError extends DaybookError {
  override readonly name = 'RefusedError'
  constructor(message: string, hint?: string, options?: ErrorOptions) { super('ERR_UNREACHABLE', message, hint, options) }
  override get retryable(): boolean { return false }
}
