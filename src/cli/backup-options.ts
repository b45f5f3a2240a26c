import type { GlobalOptions } from './global-options.js'

/** Options of `backup`, as commander hands them over. */
export interface BackupCommandOptions extends GlobalOptions {
  exclude?: string[]
  iexclude?: string[]
  excludeFile?: string[]
  iexcludeFile?: string[]
  excludeIfPresent?: string[]
  excludeCaches?: boolean
  excludeLargerThan?: string
  oneFileSystem?: boolean
  filesFrom?: string[]
  filesFromVerbatim?: string[]
  filesFromRaw?: string[]
  stdin?: boolean
  stdinFilename: string
  stdinFromCommand?: boolean
  setPath?: string[]
  tag?: string[]
  host?: string
  time?: string
  parent?: string
  groupBy: string
  force?: boolean
  dryRun?: boolean
  skipIfUnchanged?: boolean
  ignoreInode?: boolean
  ignoreCtime?: boolean
  compression: string
  /** false with --no-extra-verify */
  extraVerify?: boolean
}
