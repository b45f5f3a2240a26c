import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { output, run } from '../fixtures/run.js'

t.setTimeout(120_000)

const SCRIPTS = join(dirname(fileURLToPath(import.meta.url)), '../../scripts/lib')
const TOTALS = join(dirname(fileURLToPath(import.meta.url)), '../../../scripts/lib/tap-totals')
const said = (line: string, counts: string) => `console.log('${line}\\n1..1\\n# { ${counts} }')\n`
const good = said('ok 1 - claim', 'total: 3, pass: 3')

t.test('a file that does not end well has failed', async t => {
  for (const { name, files, says, totals, printed = /^$/ } of [
    { name: 'all is well', files: [good, said('ok 1 # SKIP too old', 'total: 2, pass: 1, skip: 1')], says: [true, true], totals: '4 passed, 0 failed' },
    { name: 'an assertion failed', files: [good, `${said('not ok 1 - claim\\n  ---\\n  found: 5\\n  ...', 'total: 1, fail: 1')}process.exitCode = 1`], says: [true, false], totals: '3 passed, 1 failed', printed: /not ok 1 - claim\n.*\n  found: 5/ },
    { name: 'an assertion failed, and it ends with 0', files: [said('not ok 1 - claim', 'total: 2, pass: 1, fail: 1')], says: [false], totals: '1 passed, 1 failed', printed: /1 failed/ },
    { name: 'it says that it passed, and ends with 3', files: [`${good}process.exit(3)`], says: [false], totals: '3 passed, 1 failed', printed: /exit code 3/ },
    { name: 'it is killed', files: [`${good}process.kill(process.pid, 'SIGKILL')\nsetInterval(() => {}, 1000)`, good], says: [false, true], totals: '6 passed, 1 failed', printed: /ended by SIGKILL/ },
    { name: 'it ends before it has tested anything', files: [`console.log('ok 1 - a beginning')`, good], says: [false, true], totals: '3 passed, 1 failed', printed: /did not say/ },
    { name: 'it says nothing', files: [''], says: [false], totals: '0 passed, 1 failed', printed: /did not say/ },
    { name: 'it throws', files: [`${good}throw new Error('what went wrong')`], says: [false], totals: '3 passed, 1 failed', printed: /what went wrong/ },
    { name: 'its counts are those of a subtest', files: [`console.log('    # { total: 3, pass: 3 }')`], says: [false], totals: '0 passed, 1 failed', printed: /did not say/ },
    // What a daemon that a test started does to it.
    { name: 'what it started holds its output', files: [`${good}require('node:child_process').spawn('sleep', ['20'], { stdio: 'inherit', detached: true }).unref()`], says: [true], totals: '3 passed, 0 failed' },
    { name: 'a file that is not there', files: [null, good], says: [false, true], totals: '3 passed, 1 failed', printed: /Cannot find module/ },
  ]) {
    await t.test(name, async t => {
      const dir = t.testdir(Object.fromEntries(files.flatMap((text, n) => text === null ? [] : [[`${n}.cjs`, text]])))
      const paths = files.map((_, n) => join(dir, `${n}.cjs`)), results = join(dir, 'results.tap')
      const { code, stdout } = await run(process.execPath, [join(SCRIPTS, 'run-tests.js'), '--jobs', '1', '--results', results, ...paths])
      t.equal(code, says.every(Boolean) ? 0 : 1)
      t.match(stdout.toString(), printed)
      const lines = readFileSync(results, 'utf8').split('\n')
      t.same(lines.filter(line => /^(not )?ok /.test(line)).map(line => line.replace(/ # time=.*/, '')), says.map((passed, n) => `${passed ? '' : 'not '}ok ${n + 1} - ${paths[n]}`))
      t.equal((await output(TOTALS, [results, String(files.length), String(code)])).toString().trim(), totals)
    })
  }
})

t.test('a file that hangs', async t => {
  const dir = t.testdir({ 'hangs.mjs': `import t from 'tap'\nt.test('the one that hangs', () => new Promise(() => setInterval(() => {}, 1000)))`, 'good.cjs': good })
  const results = join(dir, 'results.tap')
  const { code, stdout } = await run(process.execPath, [join(SCRIPTS, 'run-tests.js'), '--limit', '1', '--results', results, join(dir, 'hangs.mjs'), join(dir, 'good.cjs')])
  t.equal(code, 1)
  t.match(stdout.toString(), /the one that hangs/)
  t.match(readFileSync(results, 'utf8'), /^not ok 2 - .*hangs/m)
  t.match(readFileSync(results, 'utf8'), /^ok 1 - .*good/m, 'the others ran meanwhile')
})
