#!/usr/bin/env bash
# lanes.sh FIRST OTHER...: make targets beside each other. The first one's output is seen as it
# comes, that of the others when all are done. Fails if one fails. make itself is named here and not
# in the Makefile, where that would have `make -n` run this.
set -uo pipefail
make=${MAKE:-make} first=$1
shift
logs=$(mktemp -d)
lanes=()
# With job control, for what runs in the background would ignore SIGINT otherwise, and so would
# whatever it starts.
set -m
for other in "$@"; do
    "$make" --no-print-directory "$other" >"$logs/$other" 2>&1 &
    lanes+=("$!")
done
set +m
end() {
    for lane in "${lanes[@]}"; do kill -- "-$lane" 2>/dev/null; done
    rm -rf "$logs"
}
trap end EXIT
trap 'exit 130' INT TERM
"$make" --no-print-directory "$first"
code=$?
for lane in "${lanes[@]}"; do
    wait "$lane" || code=1
done
for other in "$@"; do cat "$logs/$other"; done
[ "$code" = 0 ]
