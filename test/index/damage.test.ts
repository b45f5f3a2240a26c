import Database from 'better-sqlite3'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import type { LocalIndex } from '../../src/index/index.js'
import { openIndex } from '../../src/index/open-index.js'
import { fill, makeIndexCase, readAll } from '../fixtures/index-case.js'
import { randomId } from '../fixtures/index-json.js'
import { makeScratch, removeScratch } from '../fixtures/scratch.js'
import { seeded } from '../fixtures/seeded.js'

/*
 * Whatever happens to the files: nothing throws, no answer is wrong, and after the index files have been added again all is known.
 */
const { seed, random } = seeded()
t.comment(`SEED=${seed}`)
const scratch = makeScratch('index-damage')
t.teardown(() => removeScratch(scratch))
process.env['TMPDIR'] = scratch

const log = { warn: (message: string, fields?: object) => t.comment(`${message} ${JSON.stringify(fields)}`) }
const fixture = makeIndexCase(seed, { files: 2, blobs: 60 })
const PAGE = 8192

// By another process: one that opens and closes a database file which SQLite has open in the same process takes SQLite's locks away.
const sh = (script: string, ...args: string[]) => execFileSync('sh', ['-ec', script, 'sh', ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
const below = (n: number) => Math.floor(random() * n)

function overwrite(file: string, offset: number, length: number): void {
  sh(`head -c ${length} /dev/urandom | dd of="$1" bs=64k oflag=seek_bytes seek=${offset} conv=notrunc 2>/dev/null`, file)
}
function flipBits(file: string, count: number): void {
  const { size } = statSync(file)
  const flips = Array.from({ length: count }, () => [below(size), 1 << below(8)])
  execFileSync(process.execPath, ['-e', `
    const { openSync, readSync, writeSync } = require('node:fs'), [, file, flips] = process.argv, fd = openSync(file, 'r+'), byte = Buffer.alloc(1)
    for (const [at, bit] of JSON.parse(flips)) {
      readSync(fd, byte, 0, 1, at)
      byte[0] ^= bit
      writeSync(fd, byte, 0, 1, at)
    }`, file, JSON.stringify(flips)])
}

/** Name -> what is done to `index.db`. */
const DAMAGE: Record<string, (file: string) => void> = {
  'emptied': file => sh(': > "$1"', file),
  'cut in the middle': file => sh(`truncate -s ${Math.floor(statSync(file).size / 2)} "$1"`, file),
  'cut behind the first page': file => sh(`truncate -s ${PAGE} "$1"`, file),
  'cut inside of the first page': file => sh('truncate -s 100 "$1"', file),
  'cut by one byte': file => sh('truncate -s -1 "$1"', file),
  'not a database': file => sh('head -c 50000 /dev/urandom > "$1"', file),
  'text': file => sh('echo "hello" > "$1"', file),
  'header overwritten': file => overwrite(file, 0, 100),
  'schema overwritten': file => overwrite(file, 100, PAGE - 100),
  'every second page overwritten': file => { for (let at = PAGE; at < statSync(file).size; at += 2 * PAGE) overwrite(file, at, PAGE) },
  'one page overwritten': file => overwrite(file, PAGE * (1 + below(statSync(file).size / PAGE - 1)), PAGE),
  'all but the header zeroed': file => sh(`size=$(stat -c %s "$1"); truncate -s 100 "$1"; truncate -s $size "$1"`, file),
  'one bit flipped': file => flipBits(file, 1),
  '40 bits flipped': file => flipBits(file, 40),
  'pages swapped': file => sh(`dd if="$1" of="$1.a" bs=${PAGE} skip=5 count=1; dd if="$1" of="$1.b" bs=${PAGE} skip=9 count=1
    dd if="$1.a" of="$1" bs=${PAGE} seek=9 conv=notrunc; dd if="$1.b" of="$1" bs=${PAGE} seek=5 conv=notrunc; rm "$1.a" "$1.b"`, file),
  'deleted': file => sh('rm "$1"', file),
  'deleted with its log': file => sh('rm -f "$1"*', file),
  'its folder deleted': file => sh('rm -r "$1"', dirname(file)),
  'the whole cache deleted': file => sh('rm -r "$1"', dirname(dirname(file))),
  'its folder a file': file => sh('rm -r "$1"; echo > "$1"', dirname(file)),
  'a folder in its place': file => sh('rm "$1"; mkdir "$1"', file),
  'a dangling link in its place': file => sh('rm "$1"; ln -s nothing "$1"', file),
  'the database of somebody else': file => sh('rm -f "$1"*; cp "$2" "$1"', file, foreign),
  'a log that does not belong to it': file => sh('rm -f "$1"-*; cp "$2-wal" "$1-wal"', file, foreign),
  'a log of noise': file => sh('rm -f "$1"-*; head -c 100000 /dev/urandom > "$1-wal"', file),
  'nothing': () => {},
}

const foreign = join(scratch, 'foreign.db')
{
  const db = new Database(join(scratch, 'open.db'))
  db.exec(`PRAGMA journal_mode = WAL; CREATE TABLE packs (a, b); INSERT INTO packs SELECT value, hex(randomblob(500)) FROM json_each('[1,2,3,4,5,6,7,8,9]')`)
  // Copied while open: closing would empty the log into the database.
  sh('cp "$1/open.db" "$2"; cp "$1/open.db-wal" "$2-wal"', scratch, foreign)
  db.close()
}

async function open(t: Test, cacheDir: string, repositoryId: string): Promise<LocalIndex> {
  const index = await openIndex({ cacheDir, repositoryId, log })
  t.teardown(() => index.close())
  return index
}

async function known(t: Test, index: LocalIndex): Promise<void> {
  await fill(index, fixture)
  t.same(readAll(index, fixture), { blobs: 0, rows: 0 }, 'all is known')
  t.equal(index.snapshots().size, index.dayNames('view').size)
}

async function newFilled(t: Test, name: string): Promise<{ cacheDir: string, repositoryId: string, index: LocalIndex }> {
  const cacheDir = join(scratch, name.replaceAll(' ', '-'))
  const repositoryId = randomId(random)
  const index = await open(t, cacheDir, repositoryId)
  await fill(index, fixture)
  await index.putSnapshots(new Map([['c'.repeat(64), '{}']]), [])
  await index.putDayNames('view', new Map([['c'.repeat(64), '2026-11-20']]))
  return { cacheDir, repositoryId, index }
}

t.test('damaged between two runs', async t => {
  for (const [name, damage] of Object.entries(DAMAGE)) {
    await t.test(name, async t => {
      const { cacheDir, repositoryId, index } = await newFilled(t, `closed ${name}`)
      await index.close()
      damage(index.path)
      const again = await open(t, cacheDir, repositoryId)
      readAll(again, fixture)
      await known(t, again)
      if (name !== 'its folder a file') t.ok(again.persistent)
    })
  }
})

t.test('damaged while in use', async t => {
  for (const [name, damage] of Object.entries(DAMAGE)) {
    await t.test(name, async t => {
      const { cacheDir, repositoryId, index } = await newFilled(t, `open ${name}`)
      damage(index.path)
      readAll(index, fixture)
      const other = await open(t, cacheDir, repositoryId)
      readAll(other, fixture)
      await known(t, other)
      readAll(index, fixture)
      await known(t, index)
      await known(t, other)
      await index.close()
      await known(t, other)
    })
  }
})

t.test('what is deleted is seen when index files are listed, and made anew', async t => {
  const { cacheDir, repositoryId, index } = await newFilled(t, 'deleted and listed')
  const heard: string[] = []
  index.onReset(reason => heard.push(reason))
  sh('rm -r "$1"', cacheDir)
  t.same(readAll(index, fixture), { blobs: 0, rows: 0 }, 'it can be read without its name')
  t.same(index.indexFiles(), new Set())
  await known(t, index)
  t.equal(heard.length, 1)
  t.ok(existsSync(index.path))
  t.ok(index.path.startsWith(join(cacheDir, repositoryId)))
})

t.test('what is deleted is seen by the next write', async t => {
  const { cacheDir, index } = await newFilled(t, 'deleted and written')
  sh('rm -r "$1"', cacheDir)
  await index.putSnapshots(new Map([['d'.repeat(64), '{}']]), [])
  t.ok(existsSync(index.path))
  t.same(index.snapshots(), new Map([['d'.repeat(64), '{}']]), 'it is in the new one')
})

t.test('an entry that is lost without a trace is found by check()', async t => {
  const { cacheDir, repositoryId, index } = await newFilled(t, 'lost')
  const id = Buffer.from(fixture.packs[1].blobs[7].id, 'hex')
  await index.close()
  const db = new Database(index.path)
  db.prepare('DELETE FROM data_blobs WHERE id = ?').run(id)
  db.close()
  const again = await open(t, cacheDir, repositoryId)
  t.same(again.locate(id), [])
  t.equal(again.indexFiles().size, fixture.files.size, 'everything seems to be there')
  t.equal(await again.check(), false)
  t.equal(again.indexFiles().size, 0)
  await known(t, again)
  t.equal(await again.check(), true)
})

t.test('a value that is changed is never believed', async t => {
  for (const [name, sql, look] of [
    ['offset', 'UPDATE data_blobs SET offset = offset + 32', readBlobs],
    ['pack', 'UPDATE data_blobs SET pack = (SELECT min(pack) FROM packs)', readBlobs],
    ['length', 'UPDATE tree_blobs SET length = length + 1', readBlobs],
    ['plain length', 'UPDATE data_blobs SET plain_length = 0 WHERE plain_length > 0', readBlobs],
    ['blob of another type', `UPDATE data_blobs SET offset = 'somewhere'`, readBlobs],
    ['pack name', `UPDATE packs SET name = randomblob(32)`, readBlobs],
    ['pack names exchanged', `UPDATE packs SET name = substr(name, 1, 31) || x'00'`, readBlobs],
    ['rows of another tree', 'UPDATE tree_rows SET (rows, checksum) = (SELECT rows, checksum FROM tree_rows ORDER BY n LIMIT 1)', readRows],
    ['rows cut short', 'UPDATE tree_rows SET rows = substr(rows, 1, length(rows) - 1)', readRows],
    ['rows as text', `UPDATE tree_rows SET rows = 'none'`, readRows],
    ['rows empty', `UPDATE tree_rows SET rows = x''`, readRows],
    ['flags', `UPDATE meta SET value = 65536 WHERE name = 'flags'`, (index: LocalIndex) => void index.flags],
    ['snapshot', `UPDATE snapshots SET json = '{"tree":""}'`, (index: LocalIndex) => void index.snapshots()],
    ['name of a day', `UPDATE day_names SET name = '2026-11-21'`, (index: LocalIndex) => void index.dayNames('view')],
    ['no table', 'DROP TABLE packs', readBlobs],
    ['no column', 'ALTER TABLE tree_rows DROP COLUMN checksum', readRows],
    ['another version', 'PRAGMA user_version = 2', readBlobs],
    ['another application', 'PRAGMA application_id = 2', readBlobs],
  ] as const) {
    await t.test(name, async t => {
      const { cacheDir, repositoryId, index } = await newFilled(t, `changed ${name}`)
      await index.close()
      const db = new Database(index.path)
      db.exec(sql)
      db.close()
      const again = await open(t, cacheDir, repositoryId)
      look(again)
      t.ok([0, 1].includes(again.snapshots().get('c'.repeat(64)) === '{}' ? 1 : again.snapshots().size), 'a snapshot is right or unknown')
      await known(t, again)
    })
  }
})

function readBlobs(index: LocalIndex): void { readAll(index, { ...fixture, rows: new Map() }) }
function readRows(index: LocalIndex): void { readAll(index, { ...fixture, packs: [] }) }

t.test('a disk that damages again and again is left', async t => {
  const { index } = await newFilled(t, 'again and again')
  for (let i = 0; i < 4; i++) await index.reset('a test')
  t.notOk(index.persistent)
  await known(t, index)
  t.ok(existsSync(index.path))
  await index.close()
  t.notOk(existsSync(dirname(index.path)), 'the temporary folder is removed')
})

t.test('nothing is left lying about', async t => {
  t.same(readdirSync(scratch).filter(name => name.startsWith('daybook-index-')), [])
  const aside = readdirSync(scratch, { recursive: true, encoding: 'utf8' }).filter(name => name.includes('.aside-'))
  t.same(aside, [])
})
