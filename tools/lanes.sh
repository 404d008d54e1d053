#!/usr/bin/env bash
# lanes.sh MAKE FIRST SECOND: make two targets beside each other. The first one's output is seen as
# it comes, the second one's when both are done. Fails if either fails.
set -uo pipefail
make=$1 first=$2 second=$3
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$make" --no-print-directory "$second" >"$log" 2>&1 &
"$make" --no-print-directory "$first"
first_code=$?
wait $!
second_code=$?
cat "$log"
[ "$first_code" = 0 ] && [ "$second_code" = 0 ]
