import t from 'tap'
import { createLogger, type Level } from '../../src/util/log.js'

function lines(level: Level, json = false): { said: string[], log: ReturnType<typeof createLogger> } {
  const said: string[] = []
  return { said, log: createLogger({ level, json, write: line => { said.push(line) }, now: () => 0 }) }
}

t.test('less urgent lines are left out', async t => {
  for (const { level, heard } of [
    { level: 'debug', heard: 4 }, { level: 'info', heard: 3 }, { level: 'warn', heard: 2 }, { level: 'error', heard: 1 },
  ] as const) {
    const { said, log } = lines(level)
    log.debug('d'); log.info('i'); log.warn('w'); log.error('e')
    t.equal(said.length, heard, level)
  }
})

t.test('text: one line each, whatever is in it', async t => {
  const { said, log } = lines('info')
  log.info('mounted', { at: '/srv/a b', count: 3, missing: undefined, id: 12n, list: ['x'] })
  log.warn('odd\nname \x1b[31m')
  t.strictSame(said, [
    '1970-01-01T00:00:00.000Z info  mounted at="/srv/a b" count=3 id="12" list=["x"]\n',
    '1970-01-01T00:00:00.000Z warn  odd\\nname \\u001b[31m\n',
  ])
})

t.test('JSON: time, level and msg in every line, whatever the fields are called', async t => {
  const { said, log } = lines('info', true)
  log.info('found', { msg: 'not this one', level: 'nor this', big: 1n << 60n, nested: { n: 2n } })
  t.strictSame(JSON.parse(said[0]), { msg: 'found', level: 'info', big: '1152921504606846976', nested: { n: '2' }, time: '1970-01-01T00:00:00.000Z' })
})

t.test('errors: messages down to the cause; stacks only where a fault is to be found', async t => {
  const error = new Error('outer', { cause: new Error('inner') })
  for (const { level, at, stack } of [
    { level: 'info', at: 'warn', stack: false },
    { level: 'info', at: 'error', stack: true },
    { level: 'debug', at: 'warn', stack: true },
  ] as const) {
    for (const json of [false, true]) {
      const { said, log } = lines(level, json)
      log[at]('failed', { error })
      t.match(said[0], /outer.*caused by: .*inner/, `${at} of ${level}`)
      t.equal(/log\.test/.test(said[0]), stack, `${at} of ${level}: stack`)
      t.equal(said[0].trimEnd().includes('\n'), false, 'one line')
    }
  }
})
