/** Columns two spaces apart, as wide as their widest cell; nothing behind the last. '' without rows. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return ''
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map(row => row[column].length)))
  const line = (cells: readonly string[]) => cells.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd() + '\n'
  return line(head) + line(widths.map(width => '-'.repeat(width))) + rows.map(line).join('')
}
