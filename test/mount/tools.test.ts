import { copyFileSync, mkdirSync, mkdtempSync, rmSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { compare, digest, type Entry } from '../fixtures/attribute-digest.js'
import { MIB, makeEveryKind } from '../fixtures/every-kind.js'
import { MountCase, mountTier } from '../fixtures/mount-case.js'
import { readEverything } from '../fixtures/read-everything.js'
import { installed, output, run, shell } from '../fixtures/run.js'
import { removeScratch } from '../fixtures/scratch.js'
import { hasSshd, Sshd } from '../fixtures/sshd.js'
import { tier } from '../fixtures/tiers.js'

// Any program that reads files reads a mount as it reads the original: each tool here works once on the source and once on the mount, and the
// two results are compared.
t.setTimeout(600_000)
const C = { ...process.env, LC_ALL: 'C', TZ: 'UTC' }

if (mountTier(t)) await main()

async function main(): Promise<void> {
  const place = new MountCase(t, 'dt')
  const source = place.path('s')
  makeEveryKind(source, { large: false, sparseLength: 300 * MIB, crowd: 1000, depth: 40 })
  copyFileSync('/bin/true', join(source, 'contents/program'))
  const repository = await place.repository()
  const backup = await repository.backup([source])
  const cacheDir = place.path('cache')
  const mounted = await place.mount(repository, { cacheDir })
  const copy = mounted.latest(source)
  /** run in both, as `$DIR` */
  const both = async (line: string): Promise<[string, string]> => {
    const [a, b] = [await shell(line, { env: { ...C, DIR: source } }), await shell(line, { env: { ...C, DIR: copy } })]
    return [a.toString('latin1'), b.toString('latin1')]
  }

  t.test('copies made by', async t => {
    const ssh = hasSshd() ? await Sshd.start(place.path('ssh')) : null
    t.teardown(() => ssh?.stop())
    const F = ssh ? `-F ${ssh.config}` : ''
    const copiers: { name: string, tool: string, command: string, remote?: boolean, times?: 'none' }[] = [
      { name: 'cp -a', tool: 'cp', command: 'cp -a "$DIR"/. "$TO"' },
      { name: 'cp -r', tool: 'cp', command: 'cd "$DIR" && cp -r --sparse=always names contents holes links "$TO"', times: 'none' },
      { name: 'rsync -aHAX', tool: 'rsync', command: 'rsync -aHAXS --numeric-ids "$DIR"/ "$TO"' },
      {
        name: 'tar --sparse', tool: 'tar', command: `tar -C "$DIR" --format=posix --sparse --xattrs --xattrs-include='*' --acls --numeric-owner -cf - . |
          tar -C "$TO" --xattrs --xattrs-include='*' --acls --numeric-owner -xpf -`,
      },
      { name: 'rsync over ssh', tool: 'rsync', command: `rsync -aHAX --numeric-ids --exclude=/holes/sparse -e "ssh ${F}" backup:"$DIR"/ "$TO"`, remote: true },
      { name: 'scp -rp', tool: 'scp', command: `scp ${F} -q -rp backup:"$DIR/contents" backup:"$DIR/modes" "$TO"`, remote: true },
      { name: 'sftp get -a', tool: 'sftp', command: `printf 'get -pR "%s" "%s"\\n' "$DIR/contents" "$TO/contents" "$DIR/times" "$TO/times" | sftp -q ${F} -b - backup`, remote: true },
    ]
    for (const { name, tool, command, remote, times } of copiers) {
      await t.test(name, async t => {
        if (!tier(t, tool, await installed(tool) || `no ${tool}`) || remote && !tier(t, 'sshd', ssh !== null || 'no sshd')) return
        const [a, b] = await Promise.all(([['a', source], ['b', copy]] as const).map(async ([to, dir]) => {
          const TO = place.path(to)
          mkdirSync(TO)
          await shell(command, { env: { ...C, DIR: dir, TO } })
          return TO
        }))
        const original = digest(a!, { islandsOf: Buffer.from(a!) }), copied = digest(b!, { islandsOf: Buffer.from(a!) })
        t.ok(original.length > 20, `${original.length} entries`)
        t.same(compare(original, copied, { ignore: (entry, field) => field === 'ctime' || field === 'mtime' && (times === 'none' || entry.path.length === 0) }), [])
        const sum = (entries: Entry[]) => entries.reduce((bytes, entry) => bytes + Number(entry.blocks) * 512, 0)
        t.ok(sum(copied) <= sum(original) + 20 * MIB, `sparse files stay sparse: ${sum(copied)} bytes against ${sum(original)}`)
        for (const dir of [a!, b!]) removeScratch(dir)
      })
    }

    await t.test('a second rsync of the mount copies nothing', async t => {
      if (!tier(t, 'rsync', await installed('rsync') || 'no rsync')) return
      const to = place.path('again')
      await output('rsync', ['-aHAX', '--exclude=/holes', `${copy}/`, to])
      t.equal((await output('rsync', ['-aHAXi', '--exclude=/holes', `${copy}/`, to])).toString('latin1'), '')
      removeScratch(to)
    })

    await t.test('a chroot of internal-sftp', async t => {
      if (!tier(t, 'sshd', ssh !== null || 'no sshd')) return
      // sshd insists that nobody but root may write to the jail and all above it: not below /tmp.
      const jail = mkdtempSync('/run/daybook-')
      const inJail = await place.mount(repository, { dir: join(jail, 'backup'), cacheDir })
      const jailed = await Sshd.start(place.path('ssh-jail'), { chroot: jail })
      await shell(`printf 'get -pR "/backup/latest%s/contents" "%s"\\n' "$DIR" "$TO" | sftp -q -F "$F" -b - backup`, { env: { ...C, DIR: source, TO: place.path('jailed'), F: jailed.config } })
      await jailed.stop()
      await inJail.unmount()
      rmSync(jail, { recursive: true })
      // The protocol knows whole seconds.
      const seconds = (entries: Entry[]) => entries.map(entry => ({ ...entry, mtime: entry.mtime.split('+')[0]! }))
      t.same(compare(seconds(digest(join(source, 'contents'))), seconds(digest(place.path('jailed'))), { ignore: (_, field) => field === 'ctime' }), [])
    })
  })

  t.test('listings by', async t => {
    const listings: { name: string, command: string }[] = [
      ...[
        '', '-size +100k', '-size 0', '-size -2c', '-newer "$DIR/times/nanoseconds"', '! -newer "$DIR/times/1969"', '! -type d -links +1', '-links 4', '-type p', '-type b', '-type c', '-type l', '-xtype l',
        '-perm -4000', '-perm /7000', '-perm 0', '-uid 4294967294', '-gid +65535', '-empty', '-lname "*etc*"', '-samefile "$DIR/links/one-inode"', '-name "*\\\\*"', '-name "?"',
        '-newermt 2038-01-20', '! -newermt 1970-01-01', '-maxdepth 2 -mindepth 2', '-depth', '-nouser',
      ].map(test => ({ name: `find ${test}`, command: `cd "$DIR" && (find . ${test} \\( -type d -printf '%p %y %m %U %G %T@\\n' -o -printf '%p %y %m %U %G %n %s %T@ %l\\n' \\) 2>&1 || true) | sort` })),
      // The size and the link count of a directory are its file system's own business, and so are the totals made of them.
      { name: 'ls -lR', command: `cd "$DIR" && ls -lRnAb --time-style=full-iso | sed -E 's/^total .*/total/; s/^(d\\S+) +\\S+ +(\\S+) +(\\S+) +\\S+/\\1 \\2 \\3/; s/ +/ /g'` },
      { name: 'ls -f', command: 'cd "$DIR/crowd" && ls -f | sort' },
      { name: 'du of every file', command: `cd "$DIR" && find . -type f -print0 | sort -z | du --files0-from=- -l --apparent-size -B1` },
      { name: 'grep -r', command: `cd "$DIR" && grep -rla 'line 7:' . --exclude=sparse | sort` },
      { name: 'grep -rc', command: `cd "$DIR" && grep -rca 'fox' contents names | sort` },
      { name: 'sha256sum', command: `cd "$DIR/contents" && sha256sum -b * 2>/dev/null | sort || true` },
      { name: 'getfattr', command: `cd "$DIR/attributes" && getfattr -dhm- -e hex * | sort` },
      { name: 'getfacl', command: `cd "$DIR/attributes" && find . -print0 | sort -z | xargs -0 getfacl -nP` },
      { name: 'getcap', command: `cd "$DIR" && getcap -r attributes` },
      { name: 'file names of readdir against lookup', command: `cd "$DIR/names" && for f in * .[!.]*; do stat -c '%n %s' -- "$f"; done` },
      { name: 'wc, head, tail', command: `cd "$DIR/contents" && wc -c random-* text-*; for f in random-* text-*; do head -c 100 $f | md5sum; tail -c 100 $f | md5sum; done` },
      { name: 'git hash-object (mmap)', command: `cd "$DIR/contents" && git hash-object --no-filters $(ls -p | grep -v /)` },
      { name: 'dd with O_DIRECT', command: `cd "$DIR/contents" && dd if=random-3145745 iflag=direct bs=64k 2>/dev/null | md5sum` },
      { name: 'dd skipping about', command: `cd "$DIR/contents" && for n in 31 7 19 0 40 8; do dd if=random-3145745 bs=77777 skip=$n count=1 2>/dev/null | md5sum; done` },
      { name: 'a program run from it', command: `"$DIR/contents/program" && echo ran` },
      { name: 'flock for reading', command: `flock -s "$DIR/contents/other" echo locked` },
      { name: 'realpath and readlink -f', command: `cd "$DIR/symlinks" && for l in parent directory self loop-a dangling; do readlink -f $l | sed "s|^$(readlink -f "$DIR")|ROOT|"; done || true` },
    ]
    for (const { name, command } of listings) {
      await t.test(name, async t => {
        const tool = /^(getfattr|getfacl|getcap|git|flock)/.exec(name)?.[0]
        if (tool && !tier(t, tool, await installed(tool) || `no ${tool}`)) return
        const [wanted, found] = await both(command)
        t.same(difference(wanted, found), [], `${wanted.split('\n').length} lines`)
      })
    }
  })

  t.test('eight programs at once, each reading everything, with nothing in any cache', async t => {
    const wanted = await readEverything(source)
    const cold = await place.mount(repository, { cacheDir: place.path('cold-cache') })
    const all = await Promise.all(Array.from({ length: 8 }, () => readEverything(cold.latest(source), 200_000)))
    for (const found of all) {
      const wrong = Object.keys({ ...wanted, ...found }).filter(path => found[path] !== wanted[path])
      t.same(wrong.slice(0, 20).map(path => `${path}: ${found[path]}, should be ${wanted[path]}`), [], `${Object.keys(found).length} entries`)
    }
    await cold.unmount()
  })

  t.test('df, stat and du give sane figures', async t => {
    for (const path of [mounted.dir, mounted.latest(), copy, join(copy, 'contents/other')]) {
      const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(path)
      t.ok(bsize >= 512 && blocks > 0 && bfree === 0 && bavail === 0 && files > 0 && ffree === 0, `${path}: ${blocks} blocks of ${bsize}, none free; ${files} files`)
    }
    t.match((await output('df', ['-P', mounted.dir])).toString(), /\s100%\s/, 'df says it is full')
    t.ok((await output('df', ['-i', mounted.dir])).length > 0)
    const { blksize, blocks, size } = statSync(join(copy, 'contents/other'))
    t.ok(blksize >= 4096 && blksize <= 4 * MIB && blocks * 512 >= size && blocks * 512 < size + 8192, `blocks of ${blksize}, ${blocks * 512} bytes allocated for ${size}`)
    const [wanted, found] = (await both('du -s -B1 --exclude=crowd "$DIR" | cut -f1')).map(Number)
    t.ok(found! > wanted! / 2 && found! < wanted! * 2, `du: ${found} against ${wanted} bytes, though the source has 300 MB of holes`)
    const device = (await output('stat', ['-c', '%d', mounted.dir, mounted.latest(), copy])).toString().trim().split('\n')
    t.equal(new Set(device).size <= 2, true, 'one device, so that find -xdev and du -x see all of it')
  })

  t.test('restic backup of the mount', async t => {
    const target = await place.repository({ name: 'of-the-mount' })
    const first = await target.backup(['.'], { cwd: copy })
    t.equal(first.summary['files_new'], backup.summary['files_new'], 'as many files as in the first place')
    await mounted.unmount()
    rmSync(cacheDir, { recursive: true })
    const again = await place.mount(repository, { cacheDir, dir: mounted.dir })
    const { summary } = await target.backup(['.'], { cwd: again.latest(source) })
    t.match(summary, { files_new: 0, files_changed: 0, files_unmodified: first.summary['files_new'], data_blobs: 0 }, 'after a remount without the index, no file is read again')
    const restored = place.path('restored')
    await target.run('restore', 'latest', '--target', restored, '--sparse')
    for (const dir of ['names', 'modes', 'owners', 'contents', 'holes', 'attributes', 'crowd']) {
      t.same(compare(digest(join(source, dir)), digest(join(restored, dir)), { ignore: (_, field) => field === 'ctime' }), [], `${dir}, restored from the second repository`)
    }
    removeScratch(restored)

    await t.test('borg create', async t => {
      if (!tier(t, 'borg', await installed('borg') || 'no borg')) return
      const env = { ...C, BORG_REPO: place.path('borg'), BORG_BASE_DIR: place.path('borg-base'), BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes' }
      await output('borg', ['init', '-e', 'none'], { env })
      for (const [name, dir] of [['source', source], ['mount', again.latest(source)]]) {
        await output('borg', ['create', '--numeric-ids', '--exclude', 'sh:holes/sparse', `::${name}`, '.'], { env, cwd: dir })
      }
      // borg reads in the order of inode numbers: that decides the order of the list, and who of hard links is the link and who the file.
      const listing = async (name: string) => (await output('borg', ['list', '--format', '{mode} {uid} {gid} {size} {mtime} {sha256} {path} {linktarget}{NUL}',
        '--exclude', 'sh:links*', '--exclude', 'sh:specials', `::${name}`], { env })).toString('latin1').split('\0').sort().join('\n')
      const [wanted, found] = [await listing('source'), await listing('mount')]
      t.same(difference(wanted, found), [], `${wanted.split('\n').length} lines`)
      t.equal((await run('borg', ['diff', '::source', 'mount', '--json-lines'], { env })).stdout.toString(), '', 'borg diff finds nothing')
    })
    await again.unmount()
  })
}

/** Lines which only one of two texts has, marked as diff does; a screenful at most. */
function difference(wanted: string, found: string): string[] {
  const [a, b] = [wanted.split('\n'), found.split('\n')]
  const here = new Set(a), there = new Set(b)
  const lines = [...a.filter(line => !there.has(line)).map(line => `- ${line}`), ...b.filter(line => !here.has(line)).map(line => `+ ${line}`)]
  if (lines.length === 0 && wanted !== found) return ['the same lines in another order or number']
  return lines.slice(0, 40)
}
