import { DaybookError } from '../errors.js'
import type { Snapshot } from '../format/snapshot.js'
import { filterSnapshots, selectSnapshots } from '../repository/filter.js'
import { describeGroup, groupSnapshots, parseGroupBy, type GroupKey } from '../retention/groups.js'
import { lockedBy } from '../retention/marks.js'
import { applyPolicy, isEmptyPolicy, type Policy, type Verdict } from '../retention/policy.js'
import { removeSnapshots } from '../retention/remove-snapshots.js'
import { EXIT } from './exit-codes.js'
import { snapshotFilter } from './filters.js'
import { policyOf, type ForgetCommandOptions } from './forget-options.js'
import { openWriter, type Writer } from './open-writer.js'
import { Output } from './output.js'
import { printable } from './printable.js'
import { snapshotJson } from './snapshot-json.js'
import { formatTable } from './table.js'
import { localTime } from './times.js'

type Judged = GroupKey & Verdict<Snapshot>

/** Remove snapshots: those named, or those that a policy does not keep. @returns 3 if some could not be removed */
export async function forgetCommand(options: ForgetCommandOptions, ids: string[]): Promise<number> {
  const policy = policyOf(options)
  const by = parseGroupBy(options.groupBy)
  const filter = snapshotFilter(options, ids)
  if (ids.length === 0) mustBeMeant(policy, options, filter.hosts.length + filter.tags.length + filter.paths.length > 0)
  const writer = await openWriter(options)
  try {
    // A policy for what is seen while others remove or add: under the lock nobody does.
    const unlock = options.dryRun ? async () => {} : await writer.lock({ exclusive: true })
    try {
      const { snapshots } = await writer.reader.sync.syncSnapshots()
      const nowMs = Date.now()
      const groups = ids.length > 0
        ? [named(selectSnapshots(snapshots, filter), nowMs)]
        : groupSnapshots(filterSnapshots(snapshots, filter).snapshots, by).map(group => judge(group, policy, nowMs))
      return await carryOut(writer, groups, options, ids.length > 0)
    } finally {
      await unlock()
    }
  } catch (error) {
    throw writer.signal.reason instanceof DaybookError ? writer.signal.reason : error
  } finally {
    await writer.close()
  }
}

/** Without a term nothing would be kept: that is to be asked for in so many words. */
function mustBeMeant(policy: Policy, { unsafeAllowRemoveAll }: ForgetCommandOptions, filtered: boolean): void {
  if (!isEmptyPolicy(policy)) return
  if (!unsafeAllowRemoveAll) throw new DaybookError('ERR_USAGE', 'no policy was specified, no snapshots will be removed', 'say what to keep (--keep-daily 7, --keep-days 30, ...), or name the snapshots to remove')
  if (!filtered) throw new DaybookError('ERR_USAGE', '--unsafe-allow-remove-all is not allowed unless --host, --tag or --path says of which snapshots')
}

function named(snapshots: readonly Snapshot[], nowMs: number): Judged {
  for (const snapshot of snapshots) {
    const lock = lockedBy(snapshot, nowMs)
    if (lock !== null) throw new DaybookError('ERR_USAGE', `snapshot ${snapshot.id.slice(0, 8)} is locked by its tag ${lock}`, `take it off with: restic tag --remove ${lock} ${snapshot.id.slice(0, 8)}`)
  }
  return { host: '', paths: null, tags: null, keep: [], remove: snapshots }
}

function judge({ snapshots, ...key }: GroupKey & { snapshots: readonly Snapshot[] }, policy: Policy, nowMs: number): Judged {
  if (!isEmptyPolicy(policy)) return { ...key, ...applyPolicy(snapshots, policy, nowMs) }
  const locked = (snapshot: Snapshot) => lockedBy(snapshot, nowMs)
  const newestFirst = [...snapshots].reverse()
  return {
    ...key, remove: newestFirst.filter(snapshot => locked(snapshot) === null),
    keep: newestFirst.flatMap(snapshot => locked(snapshot) === null ? [] : [{ snapshot, reasons: [locked(snapshot)!] }]),
  }
}

async function carryOut({ reader: { log }, access, signal }: Writer, groups: readonly Judged[], options: ForgetCommandOptions, byName: boolean): Promise<number> {
  const output = new Output()
  const ids = groups.flatMap(({ remove }) => remove.map(({ id }) => id))
  if (!options.json && !options.quiet && !byName) for (const group of groups) output.write(asText(group, options))
  output.flush()
  const failed = new Set<string>()
  const removed = options.dryRun ? ids.length : await removeSnapshots(access, ids, signal, (id, error) => {
    failed.add(id)
    log.warn(`snapshot ${id} could not be removed`, { error })
  })
  if (options.json) output.write(JSON.stringify(groups.map(asJson)) + '\n')
  else if (!options.quiet) {
    output.write(`${removed} snapshot${removed === 1 ? '' : 's'} ${options.dryRun ? 'would be removed' : 'removed'}\n`)
    if (removed > 0 && !options.dryRun) output.write('What only they needed takes up room until `restic prune`.\n')
  }
  output.flush()
  return failed.size > 0 ? EXIT.incomplete : EXIT.ok
}

function asText({ keep, remove, ...key }: Judged, { compact }: ForgetCommandOptions): string {
  const group = describeGroup(key)
  const title = (verb: string, count: number) => printable(`${verb} ${count} snapshot${count === 1 ? '' : 's'}${group === '' ? '' : ` of ${group}`}:`) + '\n'
  const table = (rows: { snapshot: Snapshot, reasons: readonly string[] }[], why: boolean) => {
    const columns = ['ID', 'Time', 'Host', 'Tags', ...why && !compact ? ['Reasons'] : [], ...compact ? [] : ['Paths']]
    return formatTable(columns, rows.map(({ snapshot: { id, timeMs, hostname, tags, paths }, reasons }) =>
      [id.slice(0, 8), localTime(timeMs), hostname, tags.join(','), ...why && !compact ? [reasons.join(', ')] : [], ...compact ? [] : [paths.join(', ')]].map(printable)))
  }
  return (keep.length > 0 ? title('keep', keep.length) + table([...keep], true) + '\n' : '')
    + (remove.length > 0 ? title('remove', remove.length) + table(remove.map(snapshot => ({ snapshot, reasons: [] })), false) + '\n' : '')
}

/** As restic's: what is empty is null. */
function asJson({ host, paths, tags, keep, remove }: Judged): object {
  const list = <T>(items: readonly T[]) => items.length > 0 ? items : null
  return {
    tags, host, paths, keep: list(keep.map(({ snapshot }) => snapshotJson(snapshot))), remove: list(remove.map(snapshotJson)),
    reasons: list(keep.map(({ snapshot, reasons }) => ({ snapshot: snapshotJson(snapshot), matches: reasons }))),
  }
}
