import { mock } from 'node:test'
import t from 'tap'
import { Progress } from '../../src/cli/progress.js'

function terminal(isTTY: boolean): { isTTY: boolean, said: string[], write(text: string): void } {
  const said: string[] = []
  return { isTTY, said, write: text => { said.push(text) } }
}

t.test('what is over soon is not mentioned, what takes long is, and leaves no trace', async t => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const stream = terminal(true)
  const progress = new Progress({ stream })
  progress.update('loading index', 1, 10)
  mock.timers.tick(1999)
  progress.update('loading index', 2, 10)
  t.strictSame(stream.said, [], 'nothing for two seconds')
  mock.timers.tick(1)
  t.strictSame(stream.said, ['\r\x1b[Kloading index ... 2 of 10'])
  progress.update('loading trees', 7, null)
  mock.timers.tick(200)
  t.equal(stream.said.at(-1), '\r\x1b[Kloading trees ... 7')
  progress.update('opening the repository')
  mock.timers.tick(200)
  t.equal(stream.said.at(-1), '\r\x1b[Kopening the repository ...')
  progress.done()
  t.equal(stream.said.at(-1), '\r\x1b[K')
  mock.timers.tick(10_000)
  t.equal(stream.said.length, 4, 'and nothing more')
})

t.test('nothing is drawn where nobody looks', async t => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  for (const { name, isTTY, quiet } of [{ name: 'a pipe', isTTY: false, quiet: false }, { name: '--quiet', isTTY: true, quiet: true }]) {
    const stream = terminal(isTTY)
    const progress = new Progress({ stream, quiet })
    progress.update('loading index', 1, 10)
    mock.timers.tick(5000)
    progress.done()
    t.strictSame(stream.said, [], name)
  }
})
