/** Columns as wide as their widest cell; the first is left-aligned, figures are right-aligned. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, n) => Math.max(title.length, ...rows.map(row => row[n].length)))
  const line = (cells: readonly string[]) => '| ' + cells.map((cell, n) => n === 0 ? cell.padEnd(widths[n]) : cell.padStart(widths[n])).join(' | ') + ' |'
  return [line(header), line(widths.map(width => '-'.repeat(width))), ...rows.map(line)].join('\n')
}

export function figure(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en-US') : value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
