import { DaybookError } from '../errors.js'
import { parseTagList } from '../repository/filter.js'
import type { Policy } from '../retention/policy.js'
import { parseSpan } from '../retention/span.js'
import type { FilterOptions, GlobalOptions } from './global-options.js'

/** Options of `forget`, as commander hands them over. */
export interface ForgetCommandOptions extends GlobalOptions, FilterOptions {
  keepLast?: string
  keepHourly?: string
  keepDaily?: string
  keepWeekly?: string
  keepMonthly?: string
  keepYearly?: string
  keepWithin?: string
  keepWithinHourly?: string
  keepWithinDaily?: string
  keepWithinWeekly?: string
  keepWithinMonthly?: string
  keepWithinYearly?: string
  keepTag?: string[]
  keepDays?: string
  lastOfMonth?: string
  lastOfYear?: string
  groupBy: string
  unsafeAllowRemoveAll?: boolean
  compact?: boolean
  dryRun?: boolean
}

/** @throws DaybookError ERR_USAGE */
export function policyOf(options: ForgetCommandOptions): Policy {
  return {
    last: parseCount('--keep-last', options.keepLast), hourly: parseCount('--keep-hourly', options.keepHourly), daily: parseCount('--keep-daily', options.keepDaily),
    weekly: parseCount('--keep-weekly', options.keepWeekly), monthly: parseCount('--keep-monthly', options.keepMonthly), yearly: parseCount('--keep-yearly', options.keepYearly),
    within: parseSpan('--keep-within', options.keepWithin ?? ''), withinHourly: parseSpan('--keep-within-hourly', options.keepWithinHourly ?? ''),
    withinDaily: parseSpan('--keep-within-daily', options.keepWithinDaily ?? ''), withinWeekly: parseSpan('--keep-within-weekly', options.keepWithinWeekly ?? ''),
    withinMonthly: parseSpan('--keep-within-monthly', options.keepWithinMonthly ?? ''), withinYearly: parseSpan('--keep-within-yearly', options.keepWithinYearly ?? ''),
    tags: (options.keepTag ?? []).map(parseTagList),
    days: parseCount('--keep-days', options.keepDays), lastOfMonth: parseCount('--last-of-month', options.lastOfMonth), lastOfYear: parseCount('--last-of-year', options.lastOfYear),
  }
}

function parseCount(option: string, text = '0'): number {
  if (text === 'unlimited') return Infinity
  if (!/^\d{1,9}$/.test(text)) throw new DaybookError('ERR_USAGE', `${option} ${text}: not a number`, 'examples: 7, unlimited')
  return Number(text)
}
