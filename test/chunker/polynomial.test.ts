import t from 'tap'
import { degree, isIrreducible, randomPolynomial } from '../../src/chunker/polynomial.js'

t.test('small polynomials: exactly those that no other one divides', async t => {
  // Every product of two polynomials of degree 1 and more, by multiplication without carry.
  const products = new Set<bigint>()
  for (let a = 2n; a < 512n; a++) {
    for (let b = 2n; b < 512n; b++) {
      let product = 0n
      for (let bit = 0n; b >> bit > 0n; bit++) if (b >> bit & 1n) product ^= a << bit
      if (product < 512n) products.add(product)
    }
  }
  for (let f = 2n; f < 512n; f++) if (isIrreducible(f) === products.has(f)) t.fail(`0x${f.toString(16)}`)
  t.notOk(isIrreducible(0n) || isIrreducible(1n), 'neither 0 nor 1 is one')
})

t.test('known polynomials of degree 53', async t => {
  // From the tests of restic's chunker: two are irreducible.
  for (const [f, irreducible] of [
    [0x38f1e565e288dfn, false], [0x3da3358b4dc173n, true], [0x30a8295b9d5c91n, false], [0x255f4350b962cbn, false], [0x267f776110a235n, false], [0x2f4dae10d41227n, false],
    [0x2482734cacca49n, true], [0x312daf4b284899n, false], [0x29dfb6553d01d1n, false], [0x3548245eb26257n, false], [0x3199e7ef4211b3n, false], [0x2026a59efb219bn, false],
  ] as const) t.equal(isIrreducible(f), irreducible, `0x${f.toString(16)}`)
})

t.test('a random polynomial is irreducible, of degree 53, and another one each time', async t => {
  const found = Array.from({ length: 3 }, () => randomPolynomial())
  t.ok(found.every(f => degree(f) === 53 && isIrreducible(f)))
  t.equal(new Set(found).size, found.length)
})
