#!/bin/bash
# mosquitto.sh - an MQTT 3.1.1 and 5 broker (Eclipse Mosquitto) on 127.0.0.1, for tests.
#
#   mosquitto.sh start DIR      starts on a free port (again: on the same one), prints PORT [TLSPORT]
#   mosquitto.sh stop|kill DIR  ends it in good order, or as a crash would
#
# Settings, from the environment of "start":
#   MQTT_TLS=NAME     also TLS, with DIR/certs/NAME.crt (server, wronghost) of certs.sh
#   MQTT_AUTH=1       user millrace, password millrace-secret; nobody else
#   MQTT_PERSIST=1    keeps sessions in DIR over a stop
#   MQTT_BIND=0.0.0.0 listens there instead of on 127.0.0.1
#   MQTT_EXTRA='a;b'  further lines for mosquitto.conf
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

configure() { # DIR PORT TLSPORT
  cat <<X
per_listener_settings false
log_dest stdout
log_type error
log_type warning
set_tcp_nodelay true
max_inflight_messages ${MQTT_INFLIGHT:-1000}
max_queued_messages 0
persistence $([[ ${MQTT_PERSIST:-} ]] && echo true || echo false)
persistence_location $1/
X
  if ((EUID == 0)); then echo 'user root'; fi
  if [[ ${MQTT_AUTH:-} ]]; then
    touch "$1/passwd"
    mosquitto_passwd -b "$1/passwd" millrace millrace-secret
    printf 'allow_anonymous false\npassword_file %s\n' "$1/passwd"
  else
    echo 'allow_anonymous true'
  fi
  printf '%s\n' "${MQTT_EXTRA:-}" | tr ';' '\n'
  printf 'listener %s %s\n' "$2" "${MQTT_BIND:-127.0.0.1}"
  if [[ ${MQTT_TLS:-} ]]; then
    printf 'listener %s 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\n' "$3" "$1/certs/ca.crt" \
      "$1/certs/$MQTT_TLS.crt" "$1/certs/$MQTT_TLS.key"
  fi
}

listens() { # PORT TLSPORT
  port_open "$1" && { [[ ! ${MQTT_TLS:-} ]] || port_open "$2"; }
}

try_start() { # DIR PORT TLSPORT
  configure "$1" "$2" "$3" >"$1/mosquitto.conf"
  launch "$1/pid" "$1/log" mosquitto -c "$1/mosquitto.conf"
  until_ok 60 "$1/pid" listens "$2" "$3"
}

start() { # DIR
  need mosquitto mosquitto
  PATH=$PATH:/usr/sbin
  mkdir -p "$1"
  if [[ ${MQTT_TLS:-} && ! -r $1/certs/ca.crt ]]; then "$here/certs.sh" "$1/certs"; fi
  local port tls try
  for try in {1..20}; do
    if [[ -r $1/port ]]; then
      read -r port tls <"$1/port"
    else
      port=$(random_port) tls=$(random_port)
    fi
    if try_start "$1" "$port" "$tls"; then
      start_guard "$1"
      printf '%s %s\n' "$port" "$tls" | tee "$1/port"
      return 0
    fi
    end_pid "$1/pid" KILL
    breathe
  done
  die "no broker after $try tries, see $1/log"
}

[[ ${2:-} ]] || die 'usage: mosquitto.sh start|stop|kill DIR'
case $1 in
start) start "$2" ;;
stop) end_pid "$2/pid" TERM ;;
kill) end_pid "$2/pid" KILL ;;
guard) guard "$2" end_pid "$2/pid" KILL ;;
*) die 'usage: mosquitto.sh start|stop|kill DIR' ;;
esac
