#!/bin/bash
# rabbitmq.sh - an AMQP 0-9-1 broker (RabbitMQ) on 127.0.0.1, for tests.
#
#   rabbitmq.sh start DIR       starts on free ports (again: on the same ones, with its data),
#                               waits, prints PORT TLSPORT MQTTPORT; user guest, password guest
#   rabbitmq.sh stop|kill DIR   ends it in good order, or as a crash would; the data stays
#   rabbitmq.sh settle DIR      what was declared outlives a kill from now on
#   rabbitmq.sh freeze|thaw DIR SIGSTOP, SIGCONT
#   rabbitmq.sh ctl DIR ARG...  rabbitmqctl
#   rabbitmq.sh alarm DIR on|off  raises or clears the memory alarm: publishers are blocked
#
# Settings, from the environment of "start":
#   AMQP_TLS=NAME     also TLS, with DIR/certs/NAME.crt (server, wronghost) of certs.sh
#   AMQP_BIND=0.0.0.0 listens there instead of on 127.0.0.1
#   AMQP_MQTT=1       also MQTT, by the plugin rabbitmq_mqtt
#   AMQP_PLUGIN=NAME  also this plugin
#   AMQP_EXTRA='a;b'  further lines for rabbitmq.conf
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

bin=/usr/lib/rabbitmq/bin # the commands in /usr/sbin change to the user rabbitmq

# ports DIR: PORT, TLS, MQTT, Erlang's distribution, its epmd
ports() {
  read -r port tls mqtt dist epmd <"$1/ports"
  node="rmq$port@localhost"
}

environment() { # DIR
  export HOME="$1" RABBITMQ_CONFIG_FILE="$1/rabbitmq" RABBITMQ_CONF_ENV_FILE="$1/env.conf" \
    RABBITMQ_MNESIA_BASE="$1/mnesia" RABBITMQ_LOG_BASE="$1/log" RABBITMQ_NODENAME="$node" \
    RABBITMQ_DIST_PORT="$dist" RABBITMQ_ENABLED_PLUGINS_FILE="$1/enabled_plugins" \
    ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$epmd" RABBITMQ_CTL_ERL_ARGS='+S 1' \
    ERL_CRASH_DUMP_SECONDS=0 RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +S 2'
}

configure() { # DIR
  cat <<X
listeners.tcp.1 = ${AMQP_BIND:-127.0.0.1}:$port
loopback_users = none
log.console = false
log.file.level = info
heartbeat = 60
vm_memory_high_watermark.relative = 0.4
disk_free_limit.absolute = 50MB
X
  if [[ ${AMQP_MQTT:-} ]]; then printf 'mqtt.listeners.tcp.1 = 127.0.0.1:%s\n' "$mqtt"; fi
  if [[ ${AMQP_TLS:-} ]]; then
    cat <<X
listeners.ssl.1 = 127.0.0.1:$tls
ssl_options.cacertfile = $1/certs/ca.crt
ssl_options.certfile = $1/certs/$AMQP_TLS.crt
ssl_options.keyfile = $1/certs/$AMQP_TLS.key
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
X
  fi
  printf '%s\n' "${AMQP_EXTRA:-}" | tr ';' '\n'
}

# end_node DIR: kill -9 of the Erlang machine, of what it started, and of its name service.
end_node() {
  local pid
  if [[ -r $1/pid ]]; then
    for pid in $(ps -o pid= -s "$(<"$1/pid")"); do kill -9 "$pid" 2>/dev/null || :; done
  fi
  end_pid "$1/pid" KILL
  end_pid "$1/epmd.pid" KILL
}

started() { # DIR
  grep -qs 'Server startup complete' "$1/log/$node.log" && port_open "$port"
}

try_start() { # DIR
  configure "$1" >"$1/rabbitmq.conf"
  rm -f "$1/log/$node.log"
  launch "$1/epmd.pid" "$1/epmd.log" epmd -address 127.0.0.1 -port "$epmd"
  launch "$1/pid" "$1/out" "$bin/rabbitmq-server"
  until_ok 90 "$1/pid" started "$1"
}

start() { # DIR
  [[ -x $bin/rabbitmq-server ]] || need rabbitmq-server rabbitmq-server
  mkdir -p "$1/log" "$1/mnesia"
  if [[ ${AMQP_TLS:-} && ! -r $1/certs/ca.crt ]]; then "$here/certs.sh" "$1/certs"; fi
  : >"$1/env.conf"
  local plugins=${AMQP_PLUGIN:-}
  if [[ ${AMQP_MQTT:-} ]]; then plugins+=${plugins:+,}rabbitmq_mqtt; fi
  echo "[$plugins]." >"$1/enabled_plugins"
  local try fresh=
  for try in 1 2 3; do
    if [[ ! -r $1/ports ]]; then
      fresh=1
      printf '%s %s %s %s %s\n' "$(random_port)" "$(random_port)" "$(random_port)" \
        "$(random_port)" "$(random_port)" >"$1/ports"
    fi
    ports "$1"
    environment "$1"
    if try_start "$1"; then
      start_guard "$1"
      printf '%s %s %s\n' "$port" "$tls" "$mqtt"
      return 0
    fi
    end_node "$1"
    if [[ $fresh ]]; then
      rm -f "$1/ports"
    else # its clients know the first three
      printf '%s %s %s %s %s\n' "$port" "$tls" "$mqtt" "$(random_port)" "$(random_port)" >"$1/ports"
    fi
  done
  tail -n 5 "$1/out" "$1/log/"*.log >&2 || :
  die "no broker after $try tries, see $1/out and $1/log"
}

stop() { # DIR: the shell script hands SIGTERM on
  end_pid "$1/pid" TERM
  end_node "$1"
}

freeze() { # DIR SIGNAL
  local pid
  for pid in $(ps -o pid= -s "$(<"$1/pid")"); do kill "-$2" "$pid" 2>/dev/null || :; done
}

ctl() { # DIR ARG...
  local dir=$1
  shift
  ports "$dir"
  environment "$dir"
  "$bin/rabbitmqctl" -q -n "$node" "$@"
}

# A declared queue is sometimes told to its client up to 2 s before Mnesia's log is written (two of
# 110 kills within a second lost one, 3.10.8), and with a queue go its confirmed messages.
settle() { # DIR
  ctl "$1" eval 'ok = mnesia:sync_log().' >/dev/null
}

alarm() { # DIR on|off
  local level=0.4
  if [[ $2 == on ]]; then level=0.00001; fi
  ctl "$1" set_vm_memory_high_watermark "$level" >/dev/null
}

usage='usage: rabbitmq.sh start|stop|kill|settle|freeze|thaw|ctl|alarm DIR …'
[[ ${2:-} ]] || die "$usage"
case $1 in
start) start "$2" ;;
stop) stop "$2" ;;
kill) end_node "$2" ;;
settle) settle "$2" ;;
freeze) freeze "$2" STOP ;;
thaw) freeze "$2" CONT ;;
ctl) ctl "${@:2}" ;;
alarm) alarm "$2" "${3:-on}" ;;
guard) guard "$2" end_node "$2" ;;
*) die "$usage" ;;
esac
