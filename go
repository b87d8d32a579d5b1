#!/bin/sh
# go - the one command of this repository.
#
#   ./go demo     installs what is missing, builds, and shows Millrace at work in this terminal
#   ./go test     installs what the tests need, builds, and runs them all
#   ./go build    builds build/release/millrace/millrace
#   ./go bench    builds and runs the benchmarks (figures, not tests); ./go bench connectors: those
#                 of each connector beside its library alone
#   ./go install  builds and installs under PREFIX (default /usr/local; DESTDIR works)
#
# On Debian 12, as root or with sudo for the packages. GO_NO_INSTALL=1 installs nothing.
# JOBS sets how many things run at once (default: the number of processors).
set -eu

cd "$(dirname "$0")"
jobs=${JOBS:-$(nproc)}

build_packages='gcc libc6-dev cmake ninja-build pkg-config
 libcjson-dev libyaml-dev libmicrohttpd-dev libcurl4-openssl-dev libmosquitto-dev libpaho-mqtt-dev libssl-dev
 librdkafka-dev librabbitmq-dev zlib1g-dev libzstd-dev libjq-dev'
demo_packages='python3 mosquitto mosquitto-clients curl'
test_packages='libcmocka-dev python3 mosquitto mosquitto-clients python3-aiosmtpd rabbitmq-server amqp-tools openssl curl strace e2fsprogs util-linux procps
 clang libclang-rt-14-dev default-jre-headless maven python3-confluent-kafka python3-venv ceph-mon ceph-osd radosgw ceph-common nodejs golang-go prometheus-alertmanager'

help() { sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p;}}' "$0"; }

# need PACKAGE…: installs those that are missing, and says so.
need() {
  missing=
  for p in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
  done
  [ -n "$missing" ] || return 0
  if [ -n "${GO_NO_INSTALL:-}" ]; then
    echo "go: missing packages:$missing" >&2
    exit 1
  fi
  echo "go: installing$missing"
  sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  log=$(mktemp)
  # Brokers are started by the tests themselves, never by their packages.
  policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=1
    printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
    $sudo chmod 755 /usr/sbin/policy-rc.d
  fi
  status=0
  { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive apt-get \
    -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends $missing; } >"$log" 2>&1 || status=$?
  [ -z "$policy" ] || $sudo rm -f /usr/sbin/policy-rc.d
  if [ "$status" != 0 ]; then
    echo "go: cannot install$missing; the end of the log:" >&2
    tail -n 20 "$log" >&2
    exit 1
  fi
  rm -f "$log"
}

# build PRESET [CMAKE-OPTION…]
build() {
  preset=$1
  shift
  cmake --preset "$preset" "$@" >/dev/null
  cmake --build --preset "$preset" -j "$jobs" -- --quiet
}

case ${1:---help} in
-h | --help | help) help ;;
build)
  need $build_packages
  build release -DMR_TESTS=OFF -DMR_BENCH=OFF
  echo "built build/release/millrace/millrace"
  ;;
install)
  need $build_packages
  build release -DMR_TESTS=OFF -DMR_BENCH=OFF -DCMAKE_INSTALL_PREFIX="${PREFIX:-/usr/local}"
  cmake --install build/release
  ;;
demo)
  need $build_packages $demo_packages
  build release -DMR_TESTS=OFF -DMR_BENCH=OFF
  shift
  exec python3 config/examples/demo/demo.py build/release/millrace/millrace "$@"
  ;;
test)
  need $build_packages $test_packages
  shift
  exec tests/support/run.sh "$jobs" "$@"
  ;;
bench)
  need $build_packages $test_packages wrk
  build release -DMR_TESTS=OFF -DMR_BENCH=ON
  shift
  [ "${1:-}" = connectors ] || exec python3 bench/run.py build/release "$@"
  status=0
  for name in kafka amqp objectstore smtp timers; do
    echo "== $name"
    python3 "bench/$name.py" build/release || status=1
  done
  exit "$status"
  ;;
*)
  help >&2
  exit 2
  ;;
esac
