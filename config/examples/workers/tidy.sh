#!/bin/sh
# An exec worker: one process per event. 0 is ok, 75 retry, 65 dead; what it prints is the result.
cat >/dev/null # the event as JSON, if you want it
case $CE_TYPE in
*.removed) echo "\"tidied ${CE_SUBJECT:-nothing}\"" ;;
*) echo "cannot tidy $CE_TYPE" >&2 && exit 65 ;;
esac
