# Newer restics than the distribution's, for the tests: restic 0.18 spreads blobs over two packs, 0.14 does not.
# They are Debian's own packages from later releases, unpacked into .cache/restic/<major.minor>/restic and never installed.
# Needs `root` and common.sh; apt is used with its own folders, so the machine's configuration stays as it is.

RESTIC_SUITES='trixie sid'

provide_restic_versions() {
  local suite
  for suite in $RESTIC_SUITES; do
    [ ! -e "$root/.cache/restic/.$suite" ] || continue
    say "fetching restic from Debian $suite"
    # Not fatal: the tests that want it skip with that reason, unless REQUIRE_TIERS names their tier.
    provide_restic_from "$suite" || warn "restic from Debian $suite cannot be had here (see .cache/restic/apt-$suite/log), tests that need it will skip"
  done
}

provide_restic_from() ( # suite
  suite=$1
  dir=$root/.cache/restic/apt-$suite
  rm -rf "$dir"
  mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/unpacked"
  cd "$dir"
  exec 2> log
  debian_source "$suite" > debian.list || { echo "no Debian mirror among this machine's apt sources" >&2; exit 1; }
  apt_here() {
    apt-get -q -o Dir::Etc::SourceList="$dir/debian.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$dir/lists" \
      -o Dir::Cache="$dir" -o Dir::Cache::Archives="$dir/archives" -o APT::Sandbox::User=root -o Acquire::Languages=none \
      -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o Acquire::Retries=1 "$@"
  }
  apt_here update > apt.out && apt_here download "restic/$suite" >> apt.out || { cat apt.out >&2; exit 1; }
  package=$(ls restic_*.deb) || exit 1
  version=$(dpkg-deb -f "$package" Version)
  version=$(sed -E 's/^([0-9]+:)?([0-9]+\.[0-9]+).*/\2/' <<< "$version")
  dpkg-deb -x "$package" unpacked || exit 1
  unpacked/usr/bin/restic version > /dev/null || exit 1
  mkdir -p "$root/.cache/restic/$version"
  mv unpacked/usr/bin/restic "$root/.cache/restic/$version/restic" || exit 1
  cd "$root"
  rm -rf "$dir"
  printf '%s\n' "$version" > "$root/.cache/restic/.$suite"
)

# An apt source for another suite of the Debian archive this machine uses: same address, same key.
debian_source() { # suite
  local codename found uri key
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  found=$(cat /etc/apt/sources.list.d/*.sources 2> /dev/null | sources_of_deb822 "$codename" | head -n 1)
  [ -n "$found" ] || found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null | sources_of_list "$codename" | head -n 1)
  [ -n "$found" ] || return 1
  read -r uri key <<< "$found"
  # A key written into the stanza itself cannot be carried over in one word; Debian's own keyring holds the same.
  [ -e "${key:-}" ] || key=/usr/share/keyrings/debian-archive-keyring.gpg
  printf 'deb [signed-by=%s] %s %s main\n' "$key" "$uri" "$1"
}

# Both print "URI KEY" for each entry that offers the main component of suite $1 itself (not its -security or -updates).
sources_of_deb822() {
  awk -v suite="$1" '
    function emit() {
      if (types ~ /deb/ && enabled !~ /no/ && (" " suites " ") ~ (" " suite " ") && (" " components " ") ~ / main /) print uris, key
      types = uris = suites = components = key = enabled = ""
    }
    /^[ \t]*#/ { next }
    /^[ \t]*$/ { emit(); next }
    { name = tolower($1); value = $0; sub(/^[^:]*:[ \t]*/, "", value) }
    name == "types:" { types = value }
    name == "uris:" { split(value, list, " "); uris = list[1] }
    name == "suites:" { suites = value }
    name == "components:" { components = value }
    name == "signed-by:" { key = value }
    name == "enabled:" { enabled = value }
    END { emit() }'
}

sources_of_list() {
  awk -v suite="$1" '
    $1 != "deb" { next }
    {
      key = ""
      if (match($0, /\[[^]]*\]/)) {
        options = substr($0, RSTART + 1, RLENGTH - 2)
        if (match(options, /signed-by=[^ ]+/)) key = substr(options, RSTART + 10, RLENGTH - 10)
        sub(/\[[^]]*\]/, "")
      }
      main = 0
      for (n = 4; n <= NF; n++) if ($n == "main") main = 1
      if ($3 == suite && main) print $2, key
    }'
}
