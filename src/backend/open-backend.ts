import { DaybookError } from '../errors.js'
import type { ReadBackend } from './backend.js'
import { LocalBackend } from './local.js'
import type { Location } from './location.js'

/** The backend of a location; nothing is read yet. @throws DaybookError ERR_UNSUPPORTED */
export function openBackend(location: Location): ReadBackend {
  if (location.scheme === 'local') return new LocalBackend(location.target)
  throw new DaybookError('ERR_UNSUPPORTED', `${location.scheme} repositories cannot be opened yet: ${location.display}`, 'local repositories can')
}
