import { StepError } from './timed.js'

/**
 * Measure each system so many times. A B, then B A: what drifts (clock speed, neighbours) falls on both. A step that fails is the end for its system,
 * and written into its figures.
 * @param results what is filled, by system
 */
export async function inTurn<F extends { problem: string | null }>(row: string, runs: number, results: Map<string, F>, measure: (system: string, figures: F) => Promise<void>): Promise<Map<string, F>> {
  const systems = [...results]
  for (let n = 0; n < runs; n++) {
    for (const [system, figures] of n % 2 === 0 ? systems : [...systems].reverse()) {
      if (figures.problem !== null) continue
      process.stderr.write(`${row} run ${n + 1}: ${system} ...\n`)
      try {
        await measure(system, figures)
      } catch (error) {
        if (!(error instanceof StepError)) throw error
        figures.problem = error.message
        console.error(`${row}, ${system}: ${error.message}`)
      }
    }
  }
  return results
}
