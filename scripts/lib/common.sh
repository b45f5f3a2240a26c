# Sourced by the scripts. The caller has set `root`, the top of the project, and runs with `set -euo pipefail`.

say() { printf '%s\n' "$*"; }
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

[ -t 1 ] || step() { printf '\n== %s\n' "$*"; }

# Node's own headers, where they lie beside the binary: node-gyp then builds without downloading any.
use_local_node_headers() {
  [ -z "${npm_config_nodedir:-}" ] || return 0
  local prefix
  prefix=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
  if [ -e "$prefix/include/node/node_api.h" ]; then export npm_config_nodedir=$prefix; fi
}

# What compiled code depends on besides its sources: a module built for another Node ABI does not load.
node_abi() { node -p 'process.platform + "-" + process.arch + "-" + process.versions.modules'; }
