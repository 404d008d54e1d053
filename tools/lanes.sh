#!/usr/bin/env bash
# lanes.sh FIRST SECOND: make two targets beside each other. The first one's output is seen as it
# comes, the second one's when both are done. Fails if either fails. make itself is named here and
# not in the Makefile, where that would have `make -n` run this.
set -uo pipefail
make=${MAKE:-make} first=$1 second=$2
log=$(mktemp)
# With job control, for what runs in the background would ignore SIGINT otherwise, and so would
# whatever it starts.
set -m
"$make" --no-print-directory "$second" >"$log" 2>&1 &
lane=$!
set +m
trap 'kill -- "-$lane" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
"$make" --no-print-directory "$first"
first_code=$?
wait "$lane"
second_code=$?
cat "$log"
[ "$first_code" = 0 ] && [ "$second_code" = 0 ]
