#!/bin/sh
# run.sh JOBS [CTEST-ARGUMENT…] - builds and runs every test; called by `./go test`.
#
# Four builds: dev runs everything; asan and tsan run the unit and contract suites again, without the
# long scripts that cut networks and kill brokers; fuzz runs each fuzz target for some seconds. Closes with the one line `N passed, N failed, N skipped`.
set -eu
jobs=$1
shift
cd "$(dirname "$0")/../.."
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
status=0

# suite PRESET AT-ONCE CTEST-ARGUMENT…
suite() {
  preset=$1
  at_once=$2
  shift 2
  echo "== $preset: building"
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" -j "$jobs" -- --quiet || return 1
  echo "== $preset: running"
  # The whole output: what is cut at ctest's 1 KiB is not counted.
  ctest --preset "$preset" -j "$at_once" --output-on-failure --no-tests=error \
    --test-output-size-passed 16777216 --test-output-size-failed 16777216 \
    --output-junit "$results/$preset.xml" "$@" || status=1
}

# What servers of the tests are made of is fetched and built before a test waits for it, once.
if [ -z "${GO_NO_INSTALL:-}" ]; then
  echo "== servers: fetching and building what is not there yet"
  for server in 'minio.sh install' 'sqs.sh install elasticmq' 'sqs.sh install moto' \
    'kafka.sh install'; do
    tests/support/$server || : # its tests are skipped, and say why
  done
fi

if [ $# -gt 0 ]; then
  suite dev "$jobs" "$@"
else
  more=$((jobs + 1)) # most of them wait for something
  suite dev "$more"
  long='contract_test_.*_(net|brokers|cooperative|disk|load|many|security|rabbitmq|steps)'
  long="$long|contract_test_objectstore|integration_test_(kafka|objectstore|amqp)"
  suite asan "$more" -L 'unit|contract|integration' -E "$long"
  suite tsan "$more" -R 'opq|http|process|exec|mqtt|timer|file|admin|worker|objectstore|amqp' -E "$long"
  tests/support/fuzz.sh "$jobs" "$results" || status=1
fi
python3 tests/support/count.py "$results" || status=1
exit $status
