import t from 'tap'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { tools, ToolsSource } from '../fixtures/tools.js'

// Through remotes: remotes.test.ts.
t.setTimeout(600_000)

if (mountTier(t)) {
  const place = new MountCase(t, 'dt')
  const source = ToolsSource.make(place.path('s'))
  const repository = await place.repository()
  const { summary } = await repository.backup([source.dir])
  await tools(t, { place, source, files: summary['files_new'], mount: options => place.mount(repository, options) })
}
