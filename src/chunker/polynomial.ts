import { randomBytes } from 'node:crypto'

/** A polynomial over GF(2): bit n is the coefficient of x^n. */
export type Polynomial = bigint

/** The largest prime below 64 - 8: fingerprints, shifted by a byte, fit into 64 bits. */
export const DEGREE = 53

/**
 * A random irreducible polynomial of degree 53, for a new repository. Which one it is decides where files are cut, so it is kept secret like a key.
 * One of 53 odd candidates is irreducible, or nearly so: some 30 are tried.
 */
export function randomPolynomial(random: () => Polynomial = random64): Polynomial {
  for (;;) {
    const candidate = random() & (1n << BigInt(DEGREE)) - 1n | 1n << BigInt(DEGREE) | 1n
    if (isIrreducible(candidate)) return candidate
  }
}

/**
 * Rabin's test: f of degree n is irreducible if x^(2^n) = x modulo f, and x^(2^(n/q)) - x has no factor in common with f for each prime q that divides n.
 */
export function isIrreducible(f: Polynomial): boolean {
  const n = degree(f)
  if (n < 1) return false
  const divisors = new Set(primeFactors(n).map(q => n / q))
  let power = remainder(2n, f)
  for (let i = 1; i <= n; i++) {
    power = remainder(square(power), f)
    if (divisors.has(i) && greatestCommonDivisor(f, power ^ 2n) !== 1n) return false
  }
  return power === remainder(2n, f)
}

/** -1 of zero */
export function degree(f: Polynomial): number { return f === 0n ? -1 : f.toString(2).length - 1 }

function remainder(value: Polynomial, f: Polynomial): Polynomial {
  const n = degree(f)
  for (let at = degree(value); at >= n; at = degree(value)) value ^= f << BigInt(at - n)
  return value
}

/** Each coefficient moves to twice its place. */
function square(value: Polynomial): Polynomial { return BigInt(`0b${value.toString(2).split('').join('0')}`) }

function greatestCommonDivisor(a: Polynomial, b: Polynomial): Polynomial {
  while (b !== 0n) [a, b] = [b, remainder(a, b)]
  return a
}

function primeFactors(n: number): number[] {
  const factors: number[] = []
  for (let q = 2; n > 1; q++) for (; n % q === 0; n /= q) factors.push(q)
  return [...new Set(factors)]
}

function random64(): Polynomial { return randomBytes(8).readBigUInt64LE() }
