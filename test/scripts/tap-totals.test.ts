import { execFileSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const SCRIPT = join(dirname(fileURLToPath(import.meta.url)), '../../../scripts/lib/tap-totals')
const END = (counts: string) => `# { total: ${counts} }\n# time=9ms\n`

t.test('CI never hears "0 failed" of a run that did not go well', async t => {
  for (const { name, tap, files, code, says } of [
    { name: 'all is well', tap: 'ok 1 - dist/a\nok 2 - dist/b\n' + END('7, pass: 7'), files: 2, code: 0, says: '7 passed, 0 failed' },
    { name: 'a skip is no failure', tap: 'ok 1 - dist/a\n' + END('7, pass: 6, skip: 1'), files: 1, code: 0, says: '6 passed, 0 failed' },
    { name: 'failed assertions', tap: 'ok 1 - dist/a\nnot ok 2 - dist/b\n' + END('7, pass: 5, fail: 2'), files: 2, code: 1, says: '5 passed, 2 failed' },
    { name: 'a file died with no assertion failed', tap: 'ok 1 - dist/a\nnot ok 2 - dist/b\n' + END('7, pass: 7'), files: 2, code: 1, says: '7 passed, 1 failed' },
    { name: 'the run broke off', tap: 'ok 1 - dist/a\n', files: 3, code: 137, says: '0 passed, 2 failed' },
    { name: 'the run broke off and claims success', tap: 'ok 1 - dist/a\n' + END('7, pass: 7'), files: 3, code: 0, says: '7 passed, 2 failed' },
    { name: 'tap failed for a reason of its own', tap: 'ok 1 - dist/a\n' + END('7, pass: 7'), files: 1, code: 1, says: '7 passed, 1 failed' },
    { name: 'nothing was tested', tap: 'ok 1 - dist/a\n' + END('0'), files: 1, code: 0, says: '0 passed, 1 failed' },
    { name: 'a test printed bytes that are no text', tap: '# \0\nok 1 - dist/a\n' + END('3, pass: 3'), files: 1, code: 0, says: '3 passed, 0 failed' },
    { name: 'no results', tap: '', files: 2, code: 1, says: '0 passed, 2 failed' },
    { name: 'a result inside a subtest is not a file', tap: '    not ok 1 - inner # TODO\nok 1 - dist/a\n' + END('3, pass: 2, todo: 1'), files: 1, code: 0, says: '2 passed, 0 failed' },
  ]) {
    const dir = t.testdir({ 'results.tap': tap })
    t.equal(execFileSync(SCRIPT, [join(dir, 'results.tap'), String(files), String(code)], { encoding: 'utf8' }).trim(), says, name)
  }
  t.equal(execFileSync(SCRIPT, ['/nonexistent', '2', '1'], { encoding: 'utf8' }).trim(), '0 passed, 2 failed', 'no results file')
})
