/** What of the files found is not to be saved. Paths are absolute, bytes. */
export interface Selection {
  /** by its path alone, which costs no system call */
  excludesPath?: (path: Buffer) => boolean
  /** by what it is. @param size bytes; 0 of directories */
  excludesEntry?: (path: Buffer, directory: boolean, size: number) => boolean
  /** Of a directory, nothing is to be saved but the entry of this name; null: all. @param has is there an entry of this name? */
  marker?: (path: Buffer, has: (name: Buffer) => boolean) => Promise<Buffer | null>
  /** stay on the file systems of the paths that were named */
  oneFileSystem?: boolean
}
