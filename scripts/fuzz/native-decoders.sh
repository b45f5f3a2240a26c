#!/bin/sh
# Runs the addon's decoders (native/tree_json, tree_rows, index_json, blob_codec) on mutated input under AddressSanitizer and UBSan.
# usage: scripts/fuzz/native-decoders.sh [ROUNDS [SEED [TREE.json...]]]
# Needs g++, libssl-dev and libzstd-dev.
set -eu
cd "$(dirname "$0")/../.."
rounds=${1:-100000}
seed=${2:-$(date +%s)}
if [ $# -gt 2 ]; then shift 2; else set --; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-g -O1 -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all"
for file in scripts/fuzz/native-decoders.cc native/tree_json.cc native/tree_rows.cc native/index_json.cc native/blob_codec.cc native/blob.cc; do
  # shellcheck disable=SC2086
  g++ -std=c++20 $flags -DNAPI_VERSION=9 -DNODE_ADDON_API_CPP_EXCEPTIONS -c "$file" -o "$work/$(basename "$file").o" \
    -isystem "$(node -p 'require("node-addon-api").include_dir')" -isystem "${NODE_INCLUDE:-$(dirname "$(dirname "$(node -p process.execPath)")")/include/node}"
done
# The Node-API half of the files is never called here.
nm -u "$work"/*.o | sed -n 's/.* U \(napi_[a-z0-9_]*\|node_api_[a-z0-9_]*\)$/void \1(void) { abort(); }/p' | sort -u > "$work/stubs"
{ echo '#include <stdlib.h>'; cat "$work/stubs"; } > "$work/stubs.c"
gcc -c "$work/stubs.c" -o "$work/stubs.o"
# shellcheck disable=SC2086
g++ $flags "$work"/*.o -o "$work/fuzz" -lcrypto -lzstd
if [ $# -eq 0 ]; then
  node --input-type=module -e '
    const id = "5a".repeat(32), node = { type: "file", mode: 420, mtime: "2024-05-06T07:08:09.123456789+02:00", atime: "1901-02-03T04:05:06Z", uid: 1, gid: 2, inode: 77, device_id: 5, size: 3, links: 2, content: [id] }
    const nodes = [{ ...node, name: "a" }, { ...node, name: "b\\\"\\\\\\xff\\u00a0" }, { name: "c", type: "dir", mode: 2147484141, content: null, subtree: id },
      { name: "d", type: "symlink", linktarget: "x\u00e9", linktarget_raw: "Li4veP8=" }, { name: "e", type: "chardev", device: 1029, generic_attributes: { x: [1, { y: null }] } },
      { ...node, name: "f", extended_attributes: [{ name: "user.a", value: "dmFsdWU=" }, { name: "user.b", value: null }] }, { name: ".", type: "dir", subtree: id }]
    process.stdout.write(JSON.stringify({ nodes }) + "\n")' > "$work/tree.json"
  set -- "$work/tree.json"
fi
echo "seed $seed"
ASAN_OPTIONS=detect_leaks=1 "$work/fuzz" "$rounds" "$seed" "$@"
