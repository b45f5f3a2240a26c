import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'
import type { Answer, Job, WorkerData } from './jobs.js'
import { Store } from './store.js'

/*
 * The thread that writes to the index: SQLite is written here, never in the thread that answers requests.
 * It is given one job at a time and answers each once.
 */
const port = parentPort as MessagePort
const { file, identity } = workerData as WorkerData
let store: Store | undefined

port.on('message', (job: Job) => {
  const answer = run(job)
  port.postMessage(answer)
  if (job.kind === 'close') return port.close()
  // Behind the answer, and without consequence: an error here comes again with the next job.
  try { store?.tidy() } catch { /* see above */ }
})

function run(job: Job): Answer {
  try {
    if (job.kind === 'close') store?.close()
    else (store ??= new Store(file, identity)).run(job)
    return {}
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException
    return { error: { message, code } }
  }
}
