#!/bin/bash
# sqs.sh - an SQS server on 127.0.0.1, for tests: ElasticMQ, or moto with S3 and its notifications.
#
#   sqs.sh start DIR [elasticmq|moto]  starts on a free port (again: on the same one), waits, prints
#                                      PORT; region us-east-1, any keys, messages in memory only
#   sqs.sh stop|kill DIR               ends it in good order, or as a crash would
#   sqs.sh install elasticmq|moto      only fetches it; start does it too
#
# ElasticMQ is fetched with Maven and moto with pip, once, into the cache of the tests. What cannot
# be fetched is a reason to skip (exit code 77). SQS_BIND=0.0.0.0 makes it listen there instead of
# on 127.0.0.1.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cache=${MILLRACE_CACHE:-$HOME/.cache/millrace-tests}
elasticmq=1.6.11
moto=5.2.5

skip() {
  printf '%s: skipped: %s\n' "$script" "$*" >&2
  exit 77
}

fetch_elasticmq() { # FOLDER
  cat >"$1/pom.xml" <<X
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace.test</groupId><artifactId>elasticmq</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.elasticmq</groupId><artifactId>elasticmq-server_2.13</artifactId>
      <version>$elasticmq</version>
    </dependency>
  </dependencies>
</project>
X
  mvn -B -q -f "$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$1/libs"
}

fetch_moto() { # FOLDER
  # The extra "server" would bring 250 MB for services that are not used here.
  python3 -m venv "$1/venv" &&
    "$1/venv/bin/pip" install "moto==$moto" flask flask-cors PyYAML py-partiql-parser
}

fetch() { # elasticmq|moto VERSION
  local folder=$cache/$1-$2
  [[ -e $folder/complete ]] && return 0
  mkdir -p "$folder"
  (
    flock 9
    [[ -e $folder/complete ]] || { "fetch_$1" "$folder" && touch "$folder/complete"; } \
      >"$folder/fetch.log" 2>&1
  ) 9>"$folder/lock" || skip "$1 could not be fetched, see $folder/fetch.log"
}

launch_elasticmq() { # DIR PORT
  cat >"$1/elasticmq.conf" <<X
include classpath("application.conf")
node-address { protocol = http, host = "127.0.0.1", port = $2, context-path = "" }
rest-sqs {
  enabled = true, bind-hostname = "${SQS_BIND:-127.0.0.1}", bind-port = $2, sqs-limits = strict
}
rest-stats { enabled = false }
aws { region = us-east-1, accountId = 000000000000 }
queues { }
X
  launch "$1/pid" "$1/log" java -Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -XX:-UsePerfData -Dconfig.file="$1/elasticmq.conf" -cp "$cache/elasticmq-$elasticmq/libs/*" \
    org.elasticmq.server.Main
}

launch_moto() { # DIR PORT
  launch "$1/pid" "$1/log" "$cache/moto-$moto/venv/bin/moto_server" \
    -H "${SQS_BIND:-127.0.0.1}" -p "$2"
}

is_ready() { # DIR KIND PORT
  if [[ $2 == moto ]]; then
    curl -sf -m 2 -o /dev/null "http://127.0.0.1:$3/moto-api/"
  else
    grep -qs 'started in' "$1/log"
  fi
}

try_start() { # DIR KIND PORT
  : >"$1/log"
  "launch_$2" "$1" "$3"
  until_ok 90 "$1/pid" is_ready "$@"
}

prepare() { # KIND
  need curl curl
  need flock util-linux
  if [[ $1 == moto ]]; then
    python3 -c 'import ensurepip' 2>/dev/null || skip 'python3-venv is not installed'
    fetch moto "$moto"
  else
    need java default-jre-headless
    need mvn maven
    fetch elasticmq "$elasticmq"
  fi
}

start() { # DIR KIND
  prepare "$2"
  mkdir -p "$1"
  local port try
  for try in 1 2 3; do
    if [[ -r $1/port ]]; then port=$(<"$1/port"); else port=$(random_port); fi
    if try_start "$1" "$2" "$port"; then
      printf '%s\n' "$port" | tee "$1/port"
      start_guard "$1"
      return 0
    fi
    end_pid "$1/pid" KILL
  done
  tail -n 5 "$1/log" >&2 || :
  die "no server after $try tries, see $1/log"
}

usage='usage: sqs.sh start DIR [elasticmq|moto], stop|kill DIR, or install elasticmq|moto'
[[ ${2:-} && ${3:-moto} =~ ^(elasticmq|moto)$ ]] || die "$usage"
case $1 in
install) prepare "$2" ;;
start) start "$2" "${3:-elasticmq}" ;;
stop) end_pid "$2/pid" TERM ;;
kill) end_pid "$2/pid" KILL ;;
guard) guard "$2" end_pid "$2/pid" KILL ;;
*) die "$usage" ;;
esac
