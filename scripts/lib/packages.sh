# Which tools each part of the project needs, how to tell that one is there, and the Debian package it comes in.

# group | test | package
NEEDS='
build | command g++                   | g++
build | command make                  | make
build | command python3               | python3
build | command pkg-config            | pkg-config
build | library fuse3 3.14            | libfuse3-dev
build | library libzstd 1.4           | libzstd-dev
build | command fusermount3           | fuse3
demo  | command restic                | restic
test  | command restic                | restic
test  | command rsync                 | rsync
test  | command borg                  | borgbackup
test  | command ssh                   | openssh-client
test  | command sftp                  | openssh-client
test  | file /usr/lib/openssh/sftp-server | openssh-sftp-server
test  | command sshd                  | openssh-server
test  | command rclone                | rclone
test  | command openssl               | openssl
test  | command ceph                  | ceph-common
test  | command ceph-mon              | ceph-mon
test  | command ceph-mgr              | ceph-mgr
test  | command ceph-osd              | ceph-osd
test  | command radosgw               | radosgw
test  | command setfacl               | acl
test  | command setfattr              | attr
test  | command python3               | python3
bench | command restic                | restic
bench | command fio                   | fio
'

is_there() { # kind name [version]
  case $1 in
    command) PATH="$PATH:/usr/sbin:/sbin" command -v "$2" > /dev/null ;;
    library) command -v pkg-config > /dev/null && pkg-config --atleast-version="$3" "$2" ;;
    file) [ -e "$2" ] ;;
  esac
}

missing_packages() { # group...
  local group test package
  while IFS='|' read -r group test package; do
    case " $* " in *" ${group// /} "*) ;; *) continue ;; esac
    # shellcheck disable=SC2086  # the test is words
    is_there $test || printf '%s\n' "${package// /}"
  done <<< "$(grep . <<< "$NEEDS")" | sort -u
}

install_missing_packages() { # group...
  local missing
  missing=$(missing_packages "$@" | tr '\n' ' ')
  missing=${missing% }
  [ -n "$missing" ] || return 0

  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo > /dev/null && { sudo -n true 2> /dev/null || [ -t 0 ]; }; then as_root=(sudo)
    else ask_for "$missing"; fi
  fi
  command -v apt-get > /dev/null || ask_for "$missing"

  say "installing packages: $missing"
  "${as_root[@]}" apt-get -qq update || warn 'apt-get update had problems, trying with what it knows'
  # A server among the packages (sshd) is only wanted as a program: policy-rc.d keeps Debian from starting it.
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e $policy ]; then
    ours=1
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy > /dev/null
    "${as_root[@]}" chmod 755 $policy
  fi
  local failed=
  # shellcheck disable=SC2086  # one word per package
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $missing > /dev/null || failed=1
  [ -z "$ours" ] || "${as_root[@]}" rm -f $policy
  [ -z "$failed" ] || die "apt-get could not install: $missing"
  missing=$(missing_packages "$@" | tr '\n' ' ')
  [ -z "$missing" ] || die "still missing after installation: $missing"
}

ask_for() { # packages
  say "These packages are missing: $1"
  say 'Install them with this command, then run this script again:'
  say
  say "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $1"
  exit 1
}
