import t from 'tap'
import { isDaybook, isFuse, mayHang, mountAt, parseMountTable, readMountTable } from '../../src/mount/mount-table.js'

const line = (id: number, parent: number, mountpoint: string, type = 'ext4') => `${id} ${parent} 8:1 / ${mountpoint} rw,relatime shared:1 - ${type} /dev/sda1 rw`

t.test('a line is taken apart', async t => {
  const [entry] = parseMountTable(Buffer.from('36 35 98:4 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - fuse.daybook daybook rw,user_id=1000,group_id=1000\n'))
  t.strictSame(entry, {
    id: 36, parent: 35, device: { major: 98, minor: 4 }, mountpoint: Buffer.from('/mnt2'), type: 'fuse.daybook', source: Buffer.from('daybook'),
    superOptions: ['rw', 'user_id=1000', 'group_id=1000'],
  })
})

t.test('names are the bytes the kernel has', async t => {
  for (const { name, escaped, bytes } of [
    { name: 'space', escaped: '/a\\040b', bytes: Buffer.from('/a b') },
    { name: 'tab and newline', escaped: '/a\\011\\012b', bytes: Buffer.from('/a\t\nb') },
    { name: 'backslash followed by digits', escaped: '/a\\134040', bytes: Buffer.from('/a\\040') },
    { name: 'number sign', escaped: '/\\043', bytes: Buffer.from('/#') },
    { name: 'UTF-8', escaped: '/é', bytes: Buffer.from('/é') },
    { name: 'a separator of ours in a name', escaped: '/a\\040-\\040b', bytes: Buffer.from('/a - b') },
  ]) t.same(parseMountTable(Buffer.from(line(1, 0, escaped)))[0].mountpoint, bytes, name)
  const notUtf8 = Buffer.concat([Buffer.from('1 0 8:1 / /a'), Buffer.from([0xff]), Buffer.from(' rw - ext4 x rw')])
  t.same(parseMountTable(notUtf8)[0].mountpoint, Buffer.from([0x2f, 0x61, 0xff]), 'not UTF-8')
})

t.test('lines that are no mounts are left out', async t => {
  for (const text of ['', '\n\n', 'rubbish', '1 2 3:4 / /x rw', '1 2 noseparator / /x rw - ext4 a b', ' - ']) t.same(parseMountTable(Buffer.from(text)), [], JSON.stringify(text))
})

t.test('of mounts on top of one another, the one on top is found', async t => {
  const table = parseMountTable(Buffer.from([line(1, 0, '/'), line(5, 1, '/a'), line(9, 5, '/a', 'tmpfs'), line(7, 9, '/a', 'fuse.daybook'), line(8, 1, '/ab')].join('\n')))
  t.equal(mountAt(table, '/a')?.id, 7)
  t.equal(mountAt(table, '/ab')?.id, 8)
  t.equal(mountAt(table, '/a/b'), null)
})

t.test('kinds of file systems', async t => {
  for (const { type, fuse, daybook, hang } of [
    { type: 'ext4', fuse: false, daybook: false, hang: false },
    { type: 'tmpfs', fuse: false, daybook: false, hang: false },
    { type: 'nfs4', fuse: false, daybook: false, hang: true },
    { type: 'autofs', fuse: false, daybook: false, hang: true },
    { type: 'fuse', fuse: true, daybook: false, hang: true },
    { type: 'fuse.sshfs', fuse: true, daybook: false, hang: true },
    { type: 'fuse.daybook', fuse: true, daybook: true, hang: true },
    { type: 'fusectl', fuse: false, daybook: false, hang: false },
    { type: 'fuseblk', fuse: false, daybook: false, hang: true },
  ]) {
    const [entry] = parseMountTable(Buffer.from(line(1, 0, '/x', type)))
    t.same([isFuse(entry), isDaybook(entry), mayHang(entry)], [fuse, daybook, hang], type)
  }
})

t.test('this machine has a root', async t => { t.ok(mountAt(readMountTable(), '/')) })
