/** What the caller of the system call is told. Everything else that goes wrong below is EIO. */
export type FsErrorCode = 'EIO' | 'ENOENT' | 'ENODATA' | 'ERANGE' | 'ENXIO' | 'EINVAL' | 'ESTALE' | 'ENOTDIR'

export class FsError extends Error {
  override readonly name = 'FsError'
  constructor(readonly code: FsErrorCode, message: string = code, options?: ErrorOptions) { super(message, options) }
}
