#!/bin/bash
# ceph-rgw.sh - an object store with bucket notifications (Ceph's gateway) on 127.0.0.1, for tests.
#
#   ceph-rgw.sh start DIR  starts on free ports, waits, prints PORT; keys AKIDTEST, SECRETTEST
#   ceph-rgw.sh stop DIR   its data is in memory and gone with it
#
# One monitor, one store in memory, one gateway; root only.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

configure() { # DIR PORT MON1 MON2
  cat >"$1/ceph.conf" <<X
[global]
fsid = $(</proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$3,v1:127.0.0.1:$4]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
keyring = $1/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
mon data avail crit = 1
run dir = $1/run
admin socket = $1/run/\$cluster-\$name.\$pid.asok
log file = $1/log/\$name.log
crash dir = $1/log
[mon]
mon data = $1/mon
[osd]
osd data = $1/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd memory target = 1073741824
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$2
rgw data = $1/rgw
rgw enable apis = s3, admin, sts, iam, notifications
rgw thread pool size = 16
rgw dns name = localhost
rgw verify ssl = false
rgw trust forwarded https = true
X
}

make_monitor() { # DIR MON1 MON2
  local cap='allow *'
  ceph-authtool --create-keyring --gen-key --name=mon. "$1/keyring" --cap mon "$cap"
  ceph-authtool --gen-key --name=client.admin --cap mon "$cap" --cap osd "$cap" --cap mgr "$cap" \
    "$1/keyring"
  monmaptool --create --clobber --fsid "$(sed -n 's/^fsid = //p' "$1/ceph.conf")" --addv a \
    "[v2:127.0.0.1:$2,v1:127.0.0.1:$3]" "$1/monmap"
  ceph-mon -c "$1/ceph.conf" --mkfs -i a --monmap "$1/monmap" --keyring "$1/keyring"
}

# The store must be made with the uuid that the monitor knows, or it stays "booting" for ever.
make_store() { # DIR
  local uuid
  uuid=$(</proc/sys/kernel/random/uuid)
  osd=$("${ceph[@]}" osd new "$uuid")
  "${ceph[@]}" auth get-or-create "osd.$osd" mon 'allow profile osd' mgr 'allow profile osd' \
    osd 'allow *' >>"$1/keyring"
  ceph-osd -c "$1/ceph.conf" -i "$osd" --mkfs --osd-uuid "$uuid"
}

store_is_up() { "${ceph[@]}" osd stat | grep -q '1 up'; }

try_start() { # DIR PORT MON1 MON2
  local out=$1/out
  rm -rf "$1"/{mon,osd,rgw,run,log,keyring,monmap}
  mkdir -p "$1"/{mon,osd,rgw,run,log}
  configure "$@"
  export CEPH_CONF=$1/ceph.conf
  ceph=(timeout 20 ceph -c "$1/ceph.conf")
  make_monitor "$1" "$3" "$4" >>"$out" 2>&1 || return 1
  launch "$1/mon.pid" "$out" ceph-mon -f -c "$1/ceph.conf" -i a
  until_ok 60 "$1/mon.pid" timeout 5 ceph -c "$1/ceph.conf" -s || return 1
  make_store "$1" >>"$out" 2>&1 || return 1
  launch "$1/osd.pid" "$out" ceph-osd -f -c "$1/ceph.conf" -i "$osd"
  until_ok 60 "$1/osd.pid" store_is_up || return 1
  "${ceph[@]}" auth get-or-create client.rgw mon 'allow rw' osd 'allow rwx' mgr 'allow rw' \
    >>"$1/keyring" 2>>"$out" || return 1
  launch "$1/rgw.pid" "$out" radosgw -f -c "$1/ceph.conf" -n client.rgw --rgw-data "$1/rgw" \
    -k "$1/keyring"
  until_ok 90 "$1/rgw.pid" curl -s -o /dev/null -m 2 "http://127.0.0.1:$2/" || return 1
  timeout 60 radosgw-admin -c "$1/ceph.conf" user create --uid=t --display-name=t \
    --access-key=AKIDTEST --secret-key=SECRETTEST >>"$out" 2>&1
}

end_all() { # DIR SIGNAL
  local daemon
  for daemon in rgw osd mon; do end_pid "$1/$daemon.pid" "$2"; done
}

start() { # DIR
  need ceph-mon ceph-mon
  need ceph-osd ceph-osd
  need radosgw radosgw
  need ceph ceph-common
  need curl curl
  ((EUID == 0)) || {
    printf '%s: skipped: Ceph wants root\n' "$script" >&2
    exit 77
  }
  mkdir -p "$1"
  start_guard "$1"
  local port try
  for try in 1 2 3; do
    port=$(random_port)
    if try_start "$1" "$port" "$(random_port)" "$(random_port)"; then
      printf '%s\n' "$port"
      return 0
    fi
    end_all "$1" KILL
  done
  tail -n 5 "$1/out" >&2 || :
  die "no gateway after $try tries, see $1/out"
}

usage='usage: ceph-rgw.sh start|stop DIR'
[[ ${2:-} ]] || die "$usage"
case $1 in
start) start "$2" ;;
stop) end_all "$2" KILL ;;
guard) guard "$2" end_all "$2" KILL ;;
*) die "$usage" ;;
esac
