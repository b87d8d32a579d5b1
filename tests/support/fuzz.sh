#!/bin/sh
# fuzz.sh JOBS RESULTS - builds the fuzz targets with clang and runs each for FUZZ_SECONDS (10) on
# its corpus; writes RESULTS/fuzz.xml for the count. A crash leaves its input in build/fuzz/.
set -eu
jobs=$1
results=$2
seconds=${FUZZ_SECONDS:-10}
echo "== fuzz: building"
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "$jobs" --target fuzzers -- --quiet
echo "== fuzz: running, $seconds s each"
ls build/fuzz/tests/fuzz/fuzz_* | grep -v '\.' | xargs -P "$jobs" -I{} sh -c '
  name=$(basename {})
  corpus=tests/fuzz/corpus/${name#fuzz_}
  work=$(mktemp -d)
  if {} -max_total_time='"$seconds"' -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix=build/fuzz/ "$work" "$corpus" >'"$results"'/$name.log 2>&1; then
    echo "<testcase name=\"$name\" status=\"run\"/>" >'"$results"'/$name.case
    grep -h stat::number_of_executed_units '"$results"'/$name.log | sed "s/^.*: */$name: executions /"
  else
    echo "<testcase name=\"$name\" status=\"fail\"/>" >'"$results"'/$name.case
    echo "$name FAILED:"; tail -n 40 '"$results"'/$name.log
  fi
  rm -rf "$work"'
{ echo '<testsuite>'; cat "$results"/*.case; echo '</testsuite>'; } >"$results/fuzz.xml"
! grep -q 'status="fail"' "$results/fuzz.xml"
