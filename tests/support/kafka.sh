#!/bin/bash
# kafka.sh - a real Apache Kafka (KRaft) on 127.0.0.1 for tests: one broker, or several.
#
#   kafka.sh start DIR [BROKERS]   starts on free ports; prints PLAIN SASL TLS SASL-OVER-TLS, each a
#                                  list host:port,… (good for the listeners that are on)
#   kafka.sh stop DIR              ends all of them at once; the data stays with DIR
#   kafka.sh kill DIR N            kill -9 of broker N (1, 2, …)
#   kafka.sh freeze|thaw DIR N     SIGSTOP, SIGCONT of broker N
#   kafka.sh restart DIR N         starts broker N again, on its old data
#   kafka.sh install               fetches the jars and prepares a quick start; `start` does it too
#
# Settings, from the environment of "start":
#   KAFKA_SASL=1        SASL listeners: PLAIN, SCRAM-SHA-256 and -512; user millrace, password
#                       millrace-secret
#   KAFKA_TLS=NAME      TLS listeners with DIR/certs/NAME.crt of certs.sh (server, wronghost, expired)
#   KAFKA_TLS_CLIENT=1  they want a client certificate
#   KAFKA_HOST=ADDRESS  where the brokers listen instead of 127.0.0.1
#   KAFKA_EXTRA='a=b;c' further lines for server.properties
#
# The jars come by Maven into ${MILLRACE_CACHE:-$HOME/.cache/millrace-tests}. One process of its own
# is the controller, so that any broker may be killed. Exit code 77: no Java, no Maven, or no jars.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

version=3.9.1
host=${KAFKA_HOST:-127.0.0.1}
home=${MILLRACE_CACHE:-$HOME/.cache/millrace-tests}/kafka-$version
user=millrace
password=millrace-secret

skip() {
  printf '%s: skipped: %s\n' "$script" "$1" >&2
  exit 77
}

fetch_jars() {
  [[ -e $home/complete ]] && return 0
  cat >"$home/pom.xml" <<X
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace.test</groupId><artifactId>kafka</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>$version</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId>
      <version>1.7.36</version></dependency>
  </dependencies>
</project>
X
  mvn -B -q -f "$home/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$home/libs" >"$home/mvn.log" 2>&1 ||
    skip "the jars cannot be fetched, see $home/mvn.log"
  cat >"$home/log.properties" <<'X'
log4j.rootLogger=WARN, out
log4j.logger.kafka.server=INFO
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %m (%c)%n
X
  touch "$home/complete"
}

# Keeps the loaded classes of a first run: later starts take half the processor time.
archive_classes() {
  [[ -e $home/classes.jsa ]] && return 0
  local tmp
  tmp=$(mktemp -d)
  (
    unset KAFKA_SASL KAFKA_TLS KAFKA_EXTRA TEST_GUARD
    host=127.0.0.1
    archiving="-XX:ArchiveClassesAtExit=$home/classes.new -Xlog:cds=off -Xlog:cds+dynamic=off"
    start_cluster "$tmp" 1
    end_pid "$tmp/node-1/pid" TERM
    stop_cluster "$tmp"
  ) >"$home/classes.log" 2>&1 || :
  if [[ -e $home/classes.new ]]; then mv "$home/classes.new" "$home/classes.jsa"; fi
  rm -rf "$tmp"
}

install() {
  need java default-jre-headless
  need mvn maven
  mkdir -p "$home"
  [[ -e $home/complete && -e $home/classes.jsa ]] && return 0
  exec 9>"$home/lock"
  flock 9
  fetch_jars
  archive_classes
  exec 9>&-
}

# Sets the array java for DIR.
use_java() {
  java=(java -Xmx160m -Xss512k -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData
    -Djava.io.tmpdir="$1/tmp" -Dlog4j.configuration="file:$home/log.properties")
  if [[ ${archiving:-} ]]; then
    # shellcheck disable=SC2206
    java+=($archiving)
  elif [[ -e $home/classes.jsa ]]; then
    java+=(-XX:SharedArchiveFile="$home/classes.jsa" -Xlog:cds=off -Xlog:cds+dynamic=off)
  fi
  java+=(-cp "$home/libs/*")
}

list() { # FIRST-PORT: host:port of every broker
  local i out=
  for ((i = 0; i < brokers; i++)); do out+=${out:+,}$host:$(($1 + i)); done
  printf '%s\n' "$out"
}

configure_sasl() {
  local l
  echo 'sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512'
  for l in sasl sasltls; do
    local jaas=listener.name.$l security=org.apache.kafka.common.security
    printf '%s.plain.sasl.jaas.config=%s.plain.PlainLoginModule required user_%s="%s";\n' \
      "$jaas" "$security" "$user" "$password"
    printf "$jaas.scram-sha-%s.sasl.jaas.config=$security.scram.ScramLoginModule required;\n" \
      256 512
  done
}

configure() { # DIR NODE: 1..BROKERS, or 100 for the controller
  local n=$2 i=$(($2 - 1)) replicas=$((brokers < 3 ? brokers : 3)) listeners
  cat <<X
node.id=$n
controller.quorum.voters=100@127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,SASLTLS:SASL_SSL
log.dirs=$1/node-$n/data
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=4194304
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
X
  if ((n == 100)); then
    printf 'process.roles=controller\nlisteners=CONTROLLER://127.0.0.1:%s\n' "$port"
    return 0
  fi
  listeners=PLAINTEXT://$host:$((port + 10 + i))
  [[ ! ${KAFKA_SASL:-} ]] || listeners+=,SASL://$host:$((port + 20 + i))
  [[ ! ${KAFKA_TLS:-} ]] || listeners+=,TLS://$host:$((port + 30 + i))
  [[ ! ${KAFKA_SASL:-} || ! ${KAFKA_TLS:-} ]] || listeners+=,SASLTLS://$host:$((port + 40 + i))
  cat <<X
process.roles=broker
listeners=$listeners
advertised.listeners=$listeners
inter.broker.listener.name=PLAINTEXT
auto.create.topics.enable=false
default.replication.factor=$replicas
min.insync.replicas=$((replicas < 2 ? 1 : 2))
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$replicas
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$((replicas < 2 ? 1 : 2))
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
replica.lag.time.max.ms=5000
X
  [[ ! ${KAFKA_SASL:-} ]] || configure_sasl
  if [[ ${KAFKA_TLS:-} ]]; then
    cat <<X
ssl.keystore.type=PEM
ssl.keystore.location=$1/certs/$KAFKA_TLS.pem
ssl.truststore.type=PEM
ssl.truststore.location=$1/certs/ca.crt
listener.name.tls.ssl.client.auth=$([[ ${KAFKA_TLS_CLIENT:-} ]] && echo required || echo none)
X
  fi
  printf '%s\n' "${KAFKA_EXTRA:-}" | tr ';' '\n'
}

# The certificate and its key in one file, the key as PKCS#8: what Kafka reads.
make_keystore() { # DIR
  [[ -r $1/certs/ca.crt ]] || "$here/certs.sh" "$1/certs"
  openssl pkcs8 -topk8 -nocrypt -in "$1/certs/$KAFKA_TLS.key" >"$1/certs/$KAFKA_TLS.pem"
  cat "$1/certs/$KAFKA_TLS.crt" >>"$1/certs/$KAFKA_TLS.pem"
}

format_node() { # DIR NODE
  local scram=()
  [[ ! -e $1/node-$2/data/meta.properties ]] || return 0
  if [[ ${KAFKA_SASL:-} ]]; then
    scram=(--add-scram "SCRAM-SHA-256=[name=$user,password=$password]"
      --add-scram "SCRAM-SHA-512=[name=$user,password=$password]")
  fi
  (
    unset archiving
    use_java "$1"
    "${java[@]}" kafka.tools.StorageTool format -t "$cluster" -c "$1/node-$2/server.properties" \
      "${scram[@]}" >"$1/node-$2/format.log" 2>&1
  ) || die "cannot format, see $1/node-$2/format.log"
}

run_node() { # DIR NODE
  : >"$1/node-$2/log"
  launch "$1/node-$2/pid" "$1/node-$2/log" "${java[@]}" kafka.Kafka "$1/node-$2/server.properties"
}

wait_node() { # DIR NODE; 1: it ended
  until_ok 90 "$1/node-$2/pid" grep -q 'Kafka Server started' "$1/node-$2/log"
}

stop_cluster() { # DIR
  local f
  for f in "$1"/node-*/pid; do
    [[ ! -e $f ]] || end_pid "$f" KILL
  done
}

try_start() { # DIR
  local n
  for n in 100 $(seq "$brokers"); do
    mkdir -p "$1/node-$n"
    configure "$1" "$n" >"$1/node-$n/server.properties"
    format_node "$1" "$n" &
  done
  wait
  for n in 100 $(seq "$brokers"); do run_node "$1" "$n"; done
  for n in 100 $(seq "$brokers"); do wait_node "$1" "$n" || return 1; done
}

start_cluster() { # DIR BROKERS
  local try
  brokers=$2
  mkdir -p "$1/tmp"
  [[ -r $1/cluster ]] || head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d = >"$1/cluster"
  cluster=$(<"$1/cluster")
  [[ ! ${KAFKA_TLS:-} ]] || make_keystore "$1"
  use_java "$1"
  for try in {1..5}; do
    if [[ -r $1/port ]]; then port=$(<"$1/port"); else port=$(random_port); fi
    if try_start "$1"; then
      printf '%s\n' "$port" >"$1/port"
      return 0
    fi
    stop_cluster "$1"
    [[ -r $1/port ]] || rm -rf "$1"/node-*/data/*
  done
  die "no cluster after $try tries, see $1/node-*/log"
}

start() { # DIR BROKERS
  install
  start_cluster "$1" "$2"
  start_guard "$1"
  printf '%s %s %s %s\n' "$(list $((port + 10)))" "$(list $((port + 20)))" \
    "$(list $((port + 30)))" "$(list $((port + 40)))"
}

restart() { # DIR N
  use_java "$1"
  end_pid "$1/node-$2/pid" KILL
  run_node "$1" "$2"
  wait_node "$1" "$2" || die "broker $2 did not start, see $1/node-$2/log"
}

usage='usage: kafka.sh install | start|stop DIR [BROKERS] | kill|freeze|thaw|restart DIR N'
[[ ${2:-} || ${1:-} == install ]] || die "$usage"
case $1 in
install) install ;;
start) start "$2" "${3:-1}" ;;
stop) stop_cluster "$2" ;;
guard) guard "$2" stop_cluster "$2" ;;
kill) end_pid "$2/node-${3:?$usage}/pid" KILL ;;
freeze) kill -STOP "$(<"$2/node-${3:?$usage}/pid")" ;;
thaw) kill -CONT "$(<"$2/node-${3:?$usage}/pid")" ;;
restart) restart "$2" "${3:?$usage}" ;;
*) die "$usage" ;;
esac
