#!/bin/sh
# Say how much space is left, every INTERVAL_S seconds, until told to stop.

trap 'echo stopping; exit 0' TERM

while :; do
  left=$(df -Pk . | awk 'NR == 2 { print $4 }')
  printf '{"event": "space_left", "kib": %s}\n' "$left"
  sleep "${INTERVAL_S:-10}" &
  wait $!  # a shell runs its trap after a command, and at once in a wait
done
