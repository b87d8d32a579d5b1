#!/bin/bash
# minio.sh - an object store with bucket notifications (MinIO) on 127.0.0.1, for tests.
#
#   minio.sh start DIR      starts on a free port (again: on the same one, with its data), waits,
#                           prints PORT; keys minioadmin, minioadmin
#   minio.sh stop|kill DIR  ends it in good order, or as a crash would
#   minio.sh install        only builds it, from its Go module, once: some minutes; `start` does it
#                           too. Exit code 77: no Go, or it could not be built
#
# Settings, from the environment of "start":
#   MINIO_ENV='A=b C=d'  further variables of the server: its notification targets
#   MINIO_TLS=NAME       TLS with DIR/certs/NAME.crt (server, wronghost) of certs.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

version=v0.0.0-20260212201848-7aac2a2c5b7c
built=${MILLRACE_CACHE:-$HOME/.cache/millrace-tests}/minio-$version

skip() {
  printf '%s: skipped: %s\n' "$script" "$1" >&2
  exit 77
}

build() {
  if [[ -x $built/minio ]]; then return 0; fi
  need go golang
  need flock util-linux
  # From 1.21 on Go fetches the version that a module asks for.
  [[ $(go version) =~ go1\.([0-9]+) && ${BASH_REMATCH[1]} -ge 21 ]] ||
    skip 'MinIO is built with Go 1.21 or later, which is not installed'
  mkdir -p "$built"
  (
    flock 9
    [[ -x $built/minio ]] ||
      GOBIN=$built go install -p 2 -buildvcs=false -ldflags '-s -w' \
        "github.com/minio/minio@$version" >"$built/build.log" 2>&1
  ) 9>"$built/lock" || skip "MinIO could not be built, see $built/build.log"
}

try_start() { # DIR PORT
  local variables=() scheme=http options=(-sf)
  read -ra variables <<<"${MINIO_ENV:-}"
  if [[ ${MINIO_TLS:-} ]]; then
    scheme=https options=(-skf)
    mkdir -p "$1/tls"
    cp "$1/certs/$MINIO_TLS.crt" "$1/tls/public.crt"
    cp "$1/certs/$MINIO_TLS.key" "$1/tls/private.key"
  fi
  mkdir -p "$1/data" "$1/tls"
  launch "$1/pid" "$1/log" env HOME="$1" MINIO_ROOT_USER=minioadmin \
    MINIO_ROOT_PASSWORD=minioadmin MINIO_BROWSER=off MINIO_UPDATE=off GOMEMLIMIT=512MiB \
    "${variables[@]}" "$built/minio" server --quiet --address "127.0.0.1:$2" \
    --certs-dir "$1/tls" "$1/data"
  until_ok 60 "$1/pid" curl "${options[@]}" -m 2 -o /dev/null \
    "$scheme://127.0.0.1:$2/minio/health/ready"
}

start() { # DIR
  need curl curl
  build
  mkdir -p "$1"
  if [[ ${MINIO_TLS:-} && ! -r $1/certs/ca.crt ]]; then "$here/certs.sh" "$1/certs"; fi
  local port try
  for try in 1 2 3; do
    if [[ -r $1/port ]]; then port=$(<"$1/port"); else port=$(random_port); fi
    if try_start "$1" "$port"; then
      printf '%s\n' "$port" | tee "$1/port"
      start_guard "$1"
      return 0
    fi
    end_pid "$1/pid" KILL
  done
  tail -n 5 "$1/log" >&2 || :
  die "no server after $try tries, see $1/log"
}

[[ ${2:-} || ${1:-} == install ]] || die 'usage: minio.sh start|stop|kill DIR, or install'
case $1 in
install) build ;;
start) start "$2" ;;
stop) end_pid "$2/pid" TERM ;;
kill) end_pid "$2/pid" KILL ;;
guard) guard "$2" end_pid "$2/pid" KILL ;;
*) die 'usage: minio.sh start|stop|kill DIR, or install' ;;
esac
