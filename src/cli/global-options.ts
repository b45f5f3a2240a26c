/** Options every command takes, as commander hands them over. */
export interface GlobalOptions {
  repo?: string
  repositoryFile?: string
  /** further locations of the same repository, as given */
  replica?: string[]
  passwordFile?: string
  passwordCommand?: string
  keyHint?: string
  insecureNoPassword?: boolean
  cacheDir?: string
  cacheSize?: string
  /** false with --no-cache */
  cache?: boolean
  /** -o key=value, as given */
  option?: string[]
  timeout?: string
  limitDownload?: string
  limitUpload?: string
  cacert?: string[]
  tlsClientCert?: string
  insecureTls?: boolean
  /** how long to wait for a locked repository, as given */
  retryLock?: string
  quiet?: boolean
  /** how often -v was given */
  verbose: number
  json?: boolean
}

/** --host, --tag and --path as given; see snapshotFilter(). */
export interface FilterOptions {
  host?: string[]
  tag?: string[]
  path?: string[]
}
