import t from 'tap'
import { MemoryBackend } from '../../src/backend/memory.js'
import type { Handle } from '../../src/backend/backend.js'
import { removeSnapshots } from '../../src/retention/remove-snapshots.js'

const [first, second, third, gone] = ['11', '22', '33', '44'].map(byte => byte.repeat(32)) as [string, string, string, string]

class Stubborn extends MemoryBackend {
  override async remove(handle: Handle): Promise<void> {
    if (handle.name === second) throw new Error('no permission')
    return super.remove(handle)
  }
}

t.test('what cannot be removed is reported, the others go', async t => {
  const backend = new Stubborn()
  for (const name of [first, second, third]) backend.put({ type: 'snapshots', name }, Buffer.from('x'))
  const access = { backend, keys: Buffer.alloc(64), version: 2 as const, level: 3 }
  const failed: string[] = []
  t.equal(await removeSnapshots(access, [first, second, gone], new AbortController().signal, id => failed.push(id)), 2, 'one that is gone counts as removed')
  t.strictSame(failed, [second])
  t.strictSame((await backend.list('snapshots')).map(({ name }) => name).sort(), [second, third])

  await t.rejects(removeSnapshots(access, [third], AbortSignal.abort(), () => {}), { code: 'ERR_ABORTED' }, 'nothing is begun behind a lost lock or a signal')
  t.equal((await backend.list('snapshots')).length, 2)
})
