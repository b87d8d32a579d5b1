#!/bin/bash
# smtp.sh - a mail server that keeps what it gets (aiosmtpd) on 127.0.0.1, for tests.
#
#   smtp.sh start DIR      starts on a free port (again: on the same one), prints PORT
#   smtp.sh stop|kill DIR  ends it in good order, or as a crash would
#
# What it does with mails: smtpd.py. Settings, from the environment of "start":
#   SMTP_TLS=starttls|smtps  offers and wants STARTTLS, or speaks TLS from the start
#   SMTP_TLS_CERT=NAME       its certificate: server, wronghost, expired (DIR/certs, certs.sh)
#   SMTP_BIND=0.0.0.0        listens there instead of on 127.0.0.1
#   SMTP_AUTH=1              wants user millrace, password millrace-secret
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

start() { # DIR
  # The packaged module belongs to Debian's own python.
  /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null || {
    printf '%s: skipped: aiosmtpd is not installed (package python3-aiosmtpd)\n' "$script" >&2
    exit 77
  }
  mkdir -p "$1/mail"
  rm -f "$1/ready"
  if [[ ${SMTP_TLS:-} && ! -r $1/certs/ca.crt ]]; then "$here/certs.sh" "$1/certs"; fi
  launch "$1/pid" "$1/log" /usr/bin/python3 "$here/smtpd.py" "$1"
  until_ok 60 "$1/pid" test -e "$1/ready" || die "no mail server, see $1/log"
  start_guard "$1"
  cat "$1/port"
}

[[ ${2:-} ]] || die 'usage: smtp.sh start|stop|kill DIR'
case $1 in
start) start "$2" ;;
stop) end_pid "$2/pid" TERM ;;
kill) end_pid "$2/pid" KILL ;;
guard) guard "$2" end_pid "$2/pid" KILL ;;
*) die 'usage: smtp.sh start|stop|kill DIR' ;;
esac
