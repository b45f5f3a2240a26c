/**
 * Node ids, as the kernel holds them: safe integers, so that they travel as doubles. They mean the same for the whole life of a mount.
 *
 *   1                                   the root
 *   2^51 | instance                     a directory: one per (snapshot, path), since the kernel allows one alias per directory
 *   [2^50] | handle * 2^24 | position   anything else: row `position` of the tree with that handle. Trees are content-addressed, so a file in an
 *                                       unchanged directory is one node, with one page cache, in every snapshot. 2^50: it has no extended attributes
 *   position alone (handle 0)           a symlink of our own making (`latest`)
 *
 * native/session.cc knows the two bits.
 */
export const ROOT = 1
export const DIRECTORY_BIT = 2 ** 51
export const NO_XATTR_BIT = 2 ** 50
export const POSITIONS = 2 ** 24
export const MAX_HANDLES = 2 ** 26
/** instance number of the root directory */
export const ROOT_INSTANCE = 1

export function isDirectoryNode(node: number): boolean { return node === ROOT || node >= DIRECTORY_BIT }
export function instanceOf(node: number): number { return node === ROOT ? ROOT_INSTANCE : node - DIRECTORY_BIT }
export function directoryNode(instance: number): number { return instance === ROOT_INSTANCE ? ROOT : DIRECTORY_BIT + instance }
export function handleOf(node: number): number { return Math.floor((node % NO_XATTR_BIT) / POSITIONS) }
export function positionOf(node: number): number { return node % POSITIONS }
export function fileNode(handle: number, position: number, hasXattrs: boolean): number {
  return (hasXattrs ? 0 : NO_XATTR_BIT) + handle * POSITIONS + position
}
