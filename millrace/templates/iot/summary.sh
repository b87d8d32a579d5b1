#!/bin/sh
# How many readings there are, once an hour.
touch readings.csv
printf '%s %s readings\n' "$CE_TIME" "$(wc -l < readings.csv)" >> summary.log
