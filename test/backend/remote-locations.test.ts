import t from 'tap'
import { parseLocation } from '../../src/backend/location.js'
import { openBackend } from '../../src/backend/open-backend.js'
import { connectionsOf, DEFAULT_OPTIONS, parseExtended } from '../../src/backend/options.js'
import { parseS3Location } from '../../src/backend/s3-location.js'
import { parseSftpLocation } from '../../src/backend/sftp-location.js'

t.test('sftp', async t => {
  for (const [text, user, host, port, path] of [
    ['sftp:host:/srv/restic', null, 'host', null, '/srv/restic'],
    ['sftp:user@host:/srv/restic/', 'user', 'host', null, '/srv/restic'],
    ['sftp:user@host:restic', 'user', 'host', null, 'restic'],
    ['sftp:user@host:', 'user', 'host', null, '.'],
    ['sftp:user@domain@host:/srv', 'user@domain', 'host', null, '/srv'],
    ['sftp:user@host:/srv/with:colon @', 'user', 'host', null, '/srv/with:colon @'],
    ['sftp:user@[::1]:/srv', 'user', '::1', null, '/srv'],
    ['sftp:[2001:db8::1]:srv', null, '2001:db8::1', null, 'srv'],
    ['sftp:alias:a/../b/./c', null, 'alias', null, 'b/c'],
    ['sftp://host/restic', null, 'host', null, 'restic'],
    ['sftp://host//srv/restic', null, 'host', null, '/srv/restic'],
    ['sftp://user@host:2222//srv', 'user', 'host', 2222, '/srv'],
    ['sftp://user@[::1]:2222//path', 'user', '::1', 2222, '/path'],
    ['sftp://user@[fe80::1%25eth0]//path', 'user', 'fe80::1%eth0', null, '/path'],
    ['sftp://user:secret@host//srv', 'user', 'host', null, '/srv'],
    ['sftp://a%40b@host//with%20space', 'a@b', 'host', null, '/with space'],
    ['sftp://host/', null, 'host', null, '.'],
  ] as const) t.strictSame(parseSftpLocation(parseLocation(text)), { user, host, port, path }, text)
  for (const text of ['sftp:', 'sftp:host', 'sftp://', 'sftp://host', 'sftp://host:port//srv', 'sftp://host:0//srv', 'sftp://host:70000//srv', 'sftp:-oProxyCommand=x:/srv', 'sftp:user@-x:/srv', 'sftp://user@-x//srv', 'sftp:-x@host:/', 'sftp:host:~/restic']) {
    t.throws(() => parseSftpLocation(parseLocation(text)), { code: 'ERR_USAGE' }, text)
  }
  t.throws(() => parseSftpLocation(parseLocation('sftp://user:secret@host')), { message: /^(?!.*secret)/ })
})

t.test('s3', async t => {
  for (const [text, endpoint, bucket, prefix, region, pathStyle] of [
    ['s3:https://host:9000/bucket/prefix', 'https://host:9000/', 'bucket', 'prefix', 'us-east-1', true],
    ['s3:http://host/bucket', 'http://host/', 'bucket', '', 'us-east-1', true],
    ['s3:http://[::1]:9000/bucket/a/b/', 'http://[::1]:9000/', 'bucket', 'a/b', 'us-east-1', true],
    ['s3:host/bucket', 'https://host/', 'bucket', '', 'us-east-1', true],
    ['s3:host:9000/bucket/a//b', 'https://host:9000/', 'bucket', 'a/b', 'us-east-1', true],
    ['s3://host/bucket/prefix', 'https://host/', 'bucket', 'prefix', 'us-east-1', true],
    ['s3:s3.amazonaws.com/bucket/prefix', null, 'bucket', 'prefix', 'us-east-1', false],
    ['s3:s3.eu-central-1.amazonaws.com/bucket', null, 'bucket', '', 'eu-central-1', false],
    ['s3:s3-eu-west-1.amazonaws.com/bucket', null, 'bucket', '', 'eu-west-1', false],
    ['s3:https://s3.amazonaws.com/bucket/prefix', null, 'bucket', 'prefix', 'us-east-1', false],
    ['s3:eu-central-1/bucket', null, 'bucket', '', 'eu-central-1', false],
    ['s3:host/bucket/with space/é', 'https://host/', 'bucket', 'with space/é', 'us-east-1', true],
  ] as const) {
    const found = parseS3Location(parseLocation(text), {}, {})
    t.strictSame({ ...found, endpoint: found.endpoint?.href ?? null }, { endpoint, bucket, prefix, region, pathStyle }, text)
  }
  for (const text of ['s3:', 's3:bucket', 's3:host/', 's3:https://host', 's3:https://host/', 's3:///bucket']) t.throws(() => parseS3Location(parseLocation(text), {}, {}), { code: 'ERR_USAGE', hint: /^examples/ }, text)
  t.throws(() => parseS3Location(parseLocation('s3:https://key:secret@host/bucket'), {}, {}), { code: 'ERR_USAGE', message: /^(?!.*secret)/, hint: /AWS_ACCESS_KEY_ID/ })

  const host = parseLocation('s3:host/bucket')
  const amazon = parseLocation('s3:s3.eu-central-1.amazonaws.com/bucket')
  t.equal(parseS3Location(host, {}, { AWS_DEFAULT_REGION: 'there' }).region, 'there')
  t.equal(parseS3Location(amazon, {}, { AWS_DEFAULT_REGION: 'there' }).region, 'there')
  t.equal(parseS3Location(amazon, { 's3.region': 'here' }, { AWS_DEFAULT_REGION: 'there' }).region, 'here')
  t.equal(parseS3Location(host, { 's3.bucket-lookup': 'dns' }, {}).pathStyle, false)
  t.equal(parseS3Location(amazon, { 's3.bucket-lookup': 'path' }, {}).pathStyle, true)
  t.throws(() => parseS3Location(host, { 's3.bucket-lookup': 'guess' }, {}), { code: 'ERR_USAGE', hint: /auto, path, dns/ })
})

t.test('-o', async t => {
  t.strictSame(parseExtended([]), {})
  t.strictSame(parseExtended(['s3.region = eu ', 'SFTP.connections=3', 'sftp.args=-o "A=b c"', 's3.region=eu']), { 's3.region': 'eu', 'sftp.connections': '3', 'sftp.args': '-o "A=b c"' })
  t.throws(() => parseExtended(['s3.regoin=x']), { code: 'ERR_USAGE', message: '-o s3.regoin: there is no such option', hint: /s3\.region/ })
  t.throws(() => parseExtended(['s3.region=a', 's3.region=b']), { code: 'ERR_USAGE', message: /twice/ })
  t.throws(() => parseExtended(['sftp.command=x']), { code: 'ERR_UNSUPPORTED', hint: /sftp\.args/ })
  for (const text of ['', 'x', '=x']) t.throws(() => parseExtended([text]), { code: 'ERR_USAGE' }, JSON.stringify(text))
  t.equal(connectionsOf({}, 's3.connections'), 12)
  t.equal(connectionsOf({ 's3.connections': '12' }, 's3.connections'), 12)
  for (const text of ['0', '-1', 'x', '1.5', '']) t.throws(() => connectionsOf({ 's3.connections': text }, 's3.connections'), { code: 'ERR_USAGE' }, JSON.stringify(text))
})

t.test('what is wrong with a location is said when it is opened, before anything is asked for', async t => {
  for (const text of ['rest:host', 'sftp:host', 's3:bucket']) await t.rejects(openBackend(parseLocation(text), DEFAULT_OPTIONS), { code: 'ERR_USAGE' }, text)
})
