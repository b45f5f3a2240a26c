import { execFileSync } from 'node:child_process'
import { resolve } from 'node:path'
import t from 'tap'
import { parseLocation, stripPassword } from '../../src/backend/location.js'
import { openBackend } from '../../src/backend/open-backend.js'

t.test('locations as restic writes them', async t => {
  for (const [text, scheme, target] of [
    ['/srv/backup', 'local', '/srv/backup'],
    ['local:/srv/backup', 'local', '/srv/backup'],
    ['/srv/back:up/', 'local', '/srv/back:up'],
    ['local:back:up', 'local', resolve('back:up')],
    ['./a:b', 'local', resolve('a:b')],
    ['../a:b', 'local', resolve('../a:b')],
    ['backup', 'local', resolve('backup')],
    ['localhost', 'local', resolve('localhost')],
    ['s3:s3.amazonaws.com/bucket/folder', 's3', 's3.amazonaws.com/bucket/folder'],
    ['sftp:user@host:/srv/backup', 'sftp', 'user@host:/srv/backup'],
    ['rest:https://user:pw@host:8000/', 'rest', 'https://user:pw@host:8000/'],
    ['b2:bucket:path', 'b2', 'bucket:path'],
    ['azure:container:/', 'azure', 'container:/'],
    ['gs:bucket:/', 'gs', 'bucket:/'],
    ['swift:container:/path', 'swift', 'container:/path'],
    ['rclone:remote:path', 'rclone', 'remote:path'],
  ] as const) t.match(parseLocation(text), { scheme, target }, text)
})

t.test('what is no location', async t => {
  for (const text of ['', 'local:', 'host:/srv/backup', 'ftp://user:secret@host/x', 'https://u:secret@host', ':x']) {
    t.throws(() => parseLocation(text), { code: 'ERR_USAGE' }, JSON.stringify(text))
  }
  try {
    parseLocation('ftp://user:secret@host/x')
  } catch (error) {
    t.notMatch((error as Error).message, 'secret')
  }
})

t.test('passwords are not shown', async t => {
  for (const [text, shown] of [
    ['rest:https://user:pw@host:8000/path', 'rest:https://user:***@host:8000/path'],
    ['rest:https://user:p@w:x@host/', 'rest:https://user:***@host/'],
    ['rest:https://:pw@host/', 'rest:https://:***@host/'],
    ['rest:https://host:8000/user:x@y', 'rest:https://host:8000/user:x@y'],
    ['sftp://user:pw@host:22//srv', 'sftp://user:***@host:22//srv'],
    ['s3:https://key:secret@host/bucket', 's3:https://key:***@host/bucket'],
    ['/srv/backup', '/srv/backup'],
  ]) {
    t.equal(stripPassword(text), shown)
    t.equal(parseLocation(text).display, shown)
  }
})

t.test('what cannot be opened says so', async t => {
  await t.rejects(openBackend(parseLocation('b2:bucket:path')), { code: 'ERR_UNSUPPORTED', message: 'b2 repositories cannot be opened: b2:bucket:path' })
  t.equal((await openBackend(parseLocation('/srv/backup'))).location, '/srv/backup')
})

t.test('a local repository loads nothing of what remotes need', async t => {
  const module = new URL('../../src/backend/open-backend.js', import.meta.url).href
  // the runner of the tests has loaded something itself
  const script = `const before = new Set(process.moduleLoadList)
    const { openBackend } = await import('${module}')
    await openBackend({ scheme: 'local', target: '/', display: '/' })
    console.log(process.moduleLoadList.filter(name => !before.has(name) && /^NativeModule (http|https|tls|net|child_process)$/.test(name)).join())`
  t.equal(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }), '\n')
})
