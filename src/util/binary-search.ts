/** The first of the numbers 0 .. count - 1 for which `before` is no longer true; count if it is true for all. */
export function firstNot(count: number, before: (i: number) => boolean): number {
  let low = 0
  let high = count
  while (low < high) {
    const middle = (low + high) >>> 1
    if (before(middle)) low = middle + 1
    else high = middle
  }
  return low
}
