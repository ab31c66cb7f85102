# Starting and ending the long-running processes of the cluster.
# shellcheck shell=bash
#
# A process is known by a record, "pid start-time", and is only ever signalled when /proc still shows that very start time:
# after a crash of the machine, or a long while, the number may belong to somebody else.

# Field 22 of /proc/PID/stat; the command name before it may hold blanks and parentheses, so cut after the last one.
started_at() { # pid
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "$1" != Z ] || return 1        # a zombie is not running any more
  echo "${20}"
}

is_running() { # record-file
  local pid began
  read -r pid began 2>/dev/null <"$1" || return 1
  [ -n "${began:-}" ] && [ "$(started_at "$pid")" = "$began" ]
}

pid_of() { local pid rest; read -r pid rest <"$1"; echo "$pid"; }

# Starts a command in a session of its own, in the tracking cgroup, logging to a file.
# Every other descriptor is closed: otherwise a daemon would hold the lock, or a caller's pipe, for as long as it lives.
start_process() { # record-file log-file cgroup command…
  local record=$1 log=$2 group=$3; shift 3
  (
    enter_cgroup "$group"
    for fd in /proc/"$BASHPID"/fd/*; do
      fd=${fd##*/}
      if [ "$fd" -gt 2 ] && [ "$fd" -lt 255 ]; then eval "exec $fd>&-"; fi
    done
    exec setsid "$@" </dev/null >>"$log" 2>&1
  ) &
  local pid=$!
  echo "$pid $(started_at "$pid" || echo gone)" >"$record"
  disown "$pid" 2>/dev/null || true
}

stop_process() { # record-file [signal] — returns when it is gone
  local record=$1 signal=${2:-TERM} tries=0
  if is_running "$record"; then
    kill "-$signal" "$(pid_of "$record")" 2>/dev/null || true
    while is_running "$record"; do
      tries=$((tries + 1))
      if [ $tries -eq 50 ]; then kill -KILL "$(pid_of "$record")" 2>/dev/null || true; fi
      [ $tries -lt 100 ] || { warn "process $(pid_of "$record") ($record) does not end"; return 1; }
      sleep 0.1
    done
  fi
  rm -f "$record"
}

# Waits until a command succeeds.
wait_for() { # seconds what command…
  local until=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || { say "gave up waiting for $what"; return 1; }
    sleep 0.1
  done
}
