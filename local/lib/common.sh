# Sourced by everything under local/: where things are kept, how progress is told, how packages are asked for.
# shellcheck shell=bash

LOCAL_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${KAGAMI_CACHE:-${HOME:-/root}/.cache/kagami}
STATE=${KAGAMI_STATE:-/var/tmp/kagami}
# A plain shell of CI has neither these folders in its path nor, at times, a home.
PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin
# shellcheck source=../versions
. "$LOCAL_DIR/versions"

# Seconds since the command began; $SECONDS is bash's own counter.
say() { printf '[%3ds] %s\n' "$SECONDS" "$*" >&2; }
warn() { printf '[%3ds] warning: %s\n' "$SECONDS" "$*" >&2; }
die() { printf 'local/cluster: %s\n' "$*" >&2; exit 1; }

# Runs a command whose output is of interest only when it fails.
quietly() { # log-file command…
  local log=$1; shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    die "failed: $* (whole log: $log)"
  fi
}

# Names the Debian packages whose programs are missing, installs them when that is possible without asking.
need_packages() { # package=path-or-command …
  local pair missing=()
  for pair in "$@"; do
    case ${pair#*=} in
      /*) [ -e "${pair#*=}" ] || missing+=("${pair%%=*}") ;;
      *) command -v "${pair#*=}" >/dev/null || missing+=("${pair%%=*}") ;;
    esac
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "missing host packages; install them and try again: apt-get install -y --no-install-recommends ${missing[*]}"
  fi
  say "installing host packages: ${missing[*]}"
  mkdir -p "$CACHE/log"
  export DEBIAN_FRONTEND=noninteractive
  # policy-rc.d answers 101 so that the host's own containerd service is not started: the nodes bring their own.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; made=yes; fi
  if ! { apt-get install -y --no-install-recommends "${missing[@]}" || { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }; } >"$CACHE/log/apt.log" 2>&1; then
    [ -z "$made" ] || rm -f $policy
    tail -n 20 "$CACHE/log/apt.log" >&2
    die "apt-get could not install: ${missing[*]}"
  fi
  [ -z "$made" ] || rm -f $policy
}

# The engine images by name, as manifests ask for them.
public_engine_images() {
  local name series source
  while read -r name series source; do
    [ -n "$source" ] || continue
    case $name in redis) echo "docker.io/library/redis:$series" ;; *) echo "docker.io/$name/$name:$series" ;; esac
  done <<<"$ENGINE_SOURCES"
}

# A script for the shell of a node or a container: signals the processes whose command line matches, and prints their ids.
# $1: file with process ids, or "all"; $2: pattern or pid1; $3: signal
# shellcheck disable=SC2016
SIGNAL_SCRIPT='
if [ "$1" = all ]; then ids=$(cd /proc && echo [0-9]*); else ids=$(find "$1" -name cgroup.procs -exec cat {} +); fi
found=
for p in $ids; do
  [ "$p" != $$ ] && [ -r "/proc/$p/cmdline" ] || continue
  if [ "$2" = pid1 ]; then
    [ "$(sed -n "s/^NSpid:.*[^0-9]\([0-9]*\)$/\1/p" "/proc/$p/status")" = 1 ] || continue
  else
    tr "\0" " " <"/proc/$p/cmdline" | grep -Eq -- "$2" || continue
  fi
  kill "-$3" "$p" && echo "$p" && found=yes
done
[ -n "$found" ] || { echo "no process matches: $2" >&2; exit 1; }'
