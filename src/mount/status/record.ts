/**
 * What a process says of itself, in the form in which it leaves it: `daybook status --json` prints it, scripts read it, so names stay and more may come.
 * Times are RFC 3339. Nothing in it is secret.
 */
export interface ProcessStatus {
  readonly pid: number
  readonly version: string
  readonly since: string
  readonly mounts: readonly MountStatus[]
}

export interface MountStatus {
  readonly mountpoint: string
  /** leaving: it is out of the tree, what is open is served to its end */
  readonly state: 'serving' | 'leaving'
  /** the preferred location, without password */
  readonly repository: string
  readonly since: string
  /** those shown, with the filters of this mount */
  readonly snapshots: number
  readonly newest: { readonly name: string, readonly time: string } | null
  /** of packs on disk, of all mounts that share the directory; null: there is none. Fields are null when nobody has counted yet. */
  readonly cache: { readonly used_bytes: number | null, readonly max_bytes: number | null } | null
  readonly locations: readonly LocationStatus[]
  readonly damage: DamageStatus
  /** requests and files that failed since the mount began, by the code of the error (ERR_CORRUPT, ERR_UNREACHABLE, ..., other) */
  readonly errors: Readonly<Record<string, number>>
}

export interface LocationStatus {
  readonly location: string
  readonly state: 'up' | 'down' | 'refused'
  /** null while it is up */
  readonly since: string | null
  readonly last_error: { readonly time: string, readonly message: string } | null
  readonly answers: number
  readonly failures: number
  readonly overtaken: number
  readonly missing: number
  readonly damaged: number
}

/** Files of the repository that gave wrong bytes, since the mount began. */
export interface DamageStatus {
  /** different files, each counted once per location */
  readonly count: number
  /** the last ones, the newest first */
  readonly last: readonly DamagedFile[]
}

export interface DamagedFile {
  /** as "pack 4bba301e..." */
  readonly file: string
  /** where there is only one, or it is not known which: the preferred one */
  readonly location: string
  readonly reason: string
  /** when it was noticed last */
  readonly time: string
  /** how often */
  readonly times: number
}

/** Is something to be done about this mount? */
export function isWell({ locations, damage }: MountStatus): boolean {
  return damage.count === 0 && locations.every(({ state }) => state === 'up')
}
