import type { Added } from '../repository/blob-saver.js'

interface Changes { new: number, changed: number, unmodified: number }

/** What a backup has done so far. Bytes. */
export class Stats {
  readonly files: Changes = { new: 0, changed: 0, unmodified: 0 }
  readonly dirs: Changes = { new: 0, changed: 0, unmodified: 0 }
  /** contents read, or known to be unchanged */
  processedBytes = 0
  dataBlobs = 0
  treeBlobs = 0
  /** new contents and trees, before and after compression */
  added = 0
  stored = 0
  /** what could not be read */
  errors = 0

  get processedFiles(): number { return this.files.new + this.files.changed + this.files.unmodified }

  count(which: 'files' | 'dirs', change: keyof Changes): void { this[which][change]++ }

  add(type: 'data' | 'tree', { blobs, length, stored }: Added): void {
    if (type === 'data') this.dataBlobs += blobs
    else this.treeBlobs += blobs
    this.added += length
    this.stored += stored
  }
}
