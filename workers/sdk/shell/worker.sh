#!/bin/sh
# A worker in ten lines of shell: no library, no jq. For more than this use another language.
printf '{"millrace":1,"max":1}\n' >&3
while IFS= read -r line <&3; do
    case $line in *'"delivery":"'*) ;; *'"stop":true'* | *'"stop": true'*) exit 0 ;; *) continue ;; esac
    id=${line#*'"delivery":"'} && id=${id%%'"'*}
    echo "handling $id" # stdout goes to Millrace's log
    printf '{"delivery":"%s","verdict":"ok"}\n' "$id" >&3
done
