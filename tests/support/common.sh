# shellcheck shell=bash
# common.sh - what the scripts that start a peer for a test share. Sourced, not run.
#
# A script keeps everything of its peer in one folder: configuration, data, log, pid and port. It
# waits for conditions and prints where the peer listens. Exit code 77: the peer is not installed.
#
# TEST_GUARD=FD in the environment of "start": a test that crashes leaves nothing behind. When the
# other end of this pipe is closed, the peer ends and its folder goes.

set -euo pipefail
export LC_ALL=C

script=${0##*/}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
  printf '%s: %s\n' "$script" "$*" >&2
  exit 1
}

# need PROGRAM PACKAGE: ends with 77 when it is not there.
need() {
  command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]] || {
    printf '%s: skipped: %s is not installed (package %s)\n' "$script" "$1" "$2" >&2
    exit 77
  }
}

# A moment, at most; ends early on a signal.
breathe() {
  read -rt 0.02 <> <(:) || :
}

port_open() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A port nobody listens on at this moment; the caller tries another when it is taken after all.
random_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM << 1 | RANDOM & 1) % 12000))
    port_open "$port" || break
  done
  printf '%s\n' "$port"
}

# launch PIDFILE LOG CMD...: in a session of its own, with no descriptor of ours but 0-2.
launch() {
  local pidfile=$1 log=$2 fd
  shift 2
  (
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      if ((fd > 2)); then eval "exec $fd>&-"; fi
    done
    exec setsid "$@" </dev/null >>"$log" 2>&1
  ) &
  printf '%s\n' "$!" >"$pidfile"
}

alive() {
  [[ -r $1 ]] && [[ $(sed 's/.*) //; s/ .*//' "/proc/$(<"$1")/stat" 2>/dev/null || echo Z) != Z ]]
}

# until_ok SECONDS PIDFILE CMD...: until it succeeds, as long as the process lives. 1: it ended, or
# the time is over.
until_ok() {
  local end=$((SECONDS + $1)) pidfile=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    alive "$pidfile" && ((SECONDS < end)) || return 1
    breathe
  done
  alive "$pidfile" # else it was another that answered
}

# end_pid PIDFILE SIGNAL: sends it and waits; KILL after ten seconds.
end_pid() {
  local end=$((SECONDS + 10))
  if alive "$1"; then
    kill "-$2" "$(<"$1")" 2>/dev/null || :
    while alive "$1"; do
      if ((SECONDS >= end)); then kill -9 "$(<"$1")" 2>/dev/null || :; fi
      breathe
    done
  fi
  rm -f "$1"
}

# start_guard DIR: the script goes on in the background as `guard DIR`.
start_guard() {
  if [[ ${TEST_GUARD:-} ]]; then
    setsid "$here/$script" guard "$1" </dev/null >/dev/null 2>&1 & # survives the test's group
  fi
}

# guard DIR CMD...: CMD ends the peer.
guard() {
  read -ru "$TEST_GUARD" || :
  "${@:2}"
  rm -rf "$1"
}
