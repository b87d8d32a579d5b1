#!/bin/sh
# One process for each event: attributes are CE_* variables, the event is on standard input.
printf '%s %s %s\n' "$CE_TIME" "$CE_TYPE" "$CE_SUBJECT" >> alerts.log
