import { mutate } from './mutate.js'
import type { Form } from './forms.js'

export interface FuzzResult { readonly form: string, readonly mutations: number, readonly read: number, readonly refused: number, readonly slowestMs: number }

/** A mutation that broke its decoder, with what is needed to see it again. */
export class FuzzFinding extends Error {
  constructor(form: string, seed: number, number: number, mutated: Buffer, cause: unknown) {
    super(`${form}: mutation ${number} of seed ${seed}: ${(cause as Error).message ?? cause}\nbase64: ${mutated.toString('base64')}`, { cause })
  }
}

/** Nothing here takes longer by itself; the machine may be busy. */
const HANG_MS = 5000

/** Throws the first FuzzFinding. `random` must come from `seed`. */
export async function fuzzForm(form: Form, mutations: number, seed: number, random: () => number): Promise<FuzzResult> {
  const result = { form: form.name, mutations, read: 0, refused: 0, slowestMs: 0 }
  for (let number = 0; number < mutations; number++) {
    const original = form.corpus[number % form.corpus.length]
    const mutated = mutate(original, random)
    const start = performance.now()
    try {
      result[await form.judge(mutated, original)]++
    } catch (cause) {
      throw new FuzzFinding(form.name, seed, number, mutated, cause)
    }
    const ms = performance.now() - start
    if (ms > HANG_MS) throw new FuzzFinding(form.name, seed, number, mutated, new Error(`took ${Math.round(ms)} ms`))
    result.slowestMs = Math.max(result.slowestMs, ms)
  }
  return result
}
