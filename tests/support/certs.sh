#!/bin/bash
# certs.sh DIR - a private authority and test certificates (PEM, EC P-256; NAME.crt, NAME.key).
#
#   ca          the authority
#   server      localhost, 127.0.0.1, ::1, 10.77.0.1 (the far side of netlab.py): the good server
#   client      CN=millrace-client
#   wronghost   other.invalid: the name check must fail
#   expired     as server, but its time ended yesterday
#   otherca     an authority that signed none of them
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need openssl openssl

make_ca() { # NAME
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
    -subj "/CN=Millrace test $1" -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign -keyout "$1.key" -out "$1.crt"
}

make_cert() { # NAME SUBJECT ALTERNATIVES [DAYS]
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$1.key" \
    -out "$1.csr"
  printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n%s\n' \
    "${3:+subjectAltName=$3}" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days "${4:-30}" \
    -extfile "$1.ext" -out "$1.crt"
  rm -f "$1.csr" "$1.ext"
}

[[ ${1:-} ]] || die 'DIR is missing'
mkdir -p "$1"
cd "$1"
{
  make_ca ca
  make_ca otherca
  make_cert server /CN=localhost DNS:localhost,IP:127.0.0.1,IP:::1,IP:10.77.0.1
  make_cert wronghost /CN=other.invalid DNS:other.invalid
  make_cert expired /CN=localhost DNS:localhost,IP:127.0.0.1,IP:::1 -1
  make_cert client /CN=millrace-client ''
} >openssl.log 2>&1 || die "openssl failed, see $1/openssl.log"
