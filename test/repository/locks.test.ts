import { hostname } from 'node:os'
import t from 'tap'
import { MemoryBackend } from '../../src/backend/memory.js'
import { newMasterKeys } from '../../src/crypto/create-key.js'
import { encodeLockFile } from '../../src/format/lock-file.js'
import { formatTimestamp } from '../../src/format/time.js'
import { isStale, listLocks, RepositoryLock, type LockOptions } from '../../src/repository/locks.js'
import { saveUnpacked } from '../../src/repository/save-unpacked.js'
import { silentLogger } from '../../src/util/log.js'
import { eventually } from '../fixtures/run.js'

const makeAccess = (backend = new MemoryBackend()) => ({ backend, keys: newMasterKeys(), version: 2 as const, level: 3 })
const options = (more: Partial<LockOptions> = {}): LockOptions => ({ onLost: () => {}, log: silentLogger, settleMs: 1, ...more })
const NOBODY = 2 ** 22 + 1

/** A lock of somebody else. */
async function put(access: ReturnType<typeof makeAccess>, { exclusive = false, ageMs = 0, host = 'elsewhere', pid = 1 } = {}): Promise<void> {
  await saveUnpacked(access, 'locks', encodeLockFile({ exclusive, hostname: host, username: 'somebody', pid }, formatTimestamp(Date.now() - ageMs), 0, 0))
}

t.test('who may work beside whom', async t => {
  for (const [theirs, ours, free] of [[false, false, true], [false, true, false], [true, false, false], [true, true, false]] as const) {
    const access = makeAccess()
    await put(access, { exclusive: theirs })
    const name = `theirs ${theirs ? 'exclusive' : 'shared'}, ours ${ours ? 'exclusive' : 'shared'}`
    if (free) {
      const lock = await RepositoryLock.acquire(access, options({ exclusive: ours }))
      t.equal(access.backend.files.size, 2, name)
      await lock.release()
    } else await t.rejects(RepositoryLock.acquire(access, options({ exclusive: ours })), { code: 'ERR_LOCKED', message: /somebody on elsewhere/ }, name)
    t.equal(access.backend.files.size, 1, `${name}: ours is gone, theirs is there`)
  }
})

t.test('of two who lock at the same moment at most one gets it for himself', async t => {
  const access = makeAccess()
  const locks = await Promise.allSettled([1, 2].map(() => RepositoryLock.acquire(access, options({ exclusive: true, settleMs: 20 }))))
  const got = locks.filter(({ status }) => status === 'fulfilled')
  t.ok(got.length <= 1)
  for (const lock of got) await (lock as PromiseFulfilledResult<RepositoryLock>).value.release()
  t.equal(access.backend.files.size, 0)
})

t.test('a lock that is in the way is waited for', async t => {
  const access = makeAccess()
  const first = await RepositoryLock.acquire(access, options({ exclusive: true }))
  const second = RepositoryLock.acquire(access, options({ waitMs: 60_000 }))
  await first.release()
  await (await second).release()
  t.equal(access.backend.files.size, 0)
})

t.test('which locks are stale', async t => {
  const now = Date.now()
  for (const [name, ageMs, host, pid, stale] of [
    ['young, elsewhere', 0, 'elsewhere', NOBODY, false], ['29 minutes', 29 * 60_000, 'elsewhere', 1, false], ['31 minutes', 31 * 60_000, 'elsewhere', 1, true],
    ['here, of a process that lives', 0, hostname(), process.pid, false], ['here, of a process that is gone', 0, hostname(), NOBODY, true],
  ] as const) t.equal(isStale({ timeMs: now - ageMs, exclusive: true, hostname: host, username: '', pid }, now), stale, name)
})

t.test('a stale lock in the way is removed, another one is left alone', async t => {
  const access = makeAccess()
  await put(access, { exclusive: true, ageMs: 40 * 60_000 })
  await put(access, { ageMs: 40 * 60_000 })
  const lock = await RepositoryLock.acquire(access, options())
  t.strictSame((await listLocks(access)).map(({ exclusive }) => exclusive), [false, false])
  await lock.release()
})

t.test('a lock is refreshed by a new file before the old one goes, and nothing is left of it', async t => {
  const access = makeAccess()
  const lock = await RepositoryLock.acquire(access, options({ refreshMs: 5 }))
  const [first] = access.backend.files.keys()
  await eventually('a new lock', () => !access.backend.files.has(first!))
  t.equal((await listLocks(access)).length >= 1, true, 'there is one at every moment')
  await lock.release()
  t.equal(access.backend.files.size, 0)
})

t.test('a lock that cannot be read counts as somebody\'s', async t => {
  const access = makeAccess()
  access.backend.put({ type: 'locks', name: 'ab'.repeat(32) }, Buffer.alloc(100))
  await t.rejects(RepositoryLock.acquire(access, options()), { code: 'ERR_CORRUPT' })
  access.backend.put({ type: 'locks', name: 'ab'.repeat(32) }, Buffer.alloc(0))
  await (await RepositoryLock.acquire(access, options())).release()
})
