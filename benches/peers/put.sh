#!/usr/bin/env bash
# W8p: `put` of a large file against `cp` and `sync` of it, in turns; and `get` of it, against `cp`.
#
#   benches/peers/put.sh target/release/pond [GIGABYTES [ROUNDS [DIR]]]
#
# Prints each time in seconds, the medians' ratio, and the most memory that a put and a get took. The
# file is noise, and in the page cache for both. Pond and copies are in DIR (by default a directory
# in /var/tmp), which needs room for four times the file.
set -euo pipefail
pond=$(realpath "$1")
gigabytes=${2:-2}
rounds=${3:-5}
work=$(mktemp -d -p "${4:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
cd "$work"
head -c $((gigabytes * 1000000000)) /dev/urandom >big
sync

seconds() {
    local begun=$EPOCHREALTIME
    "$@" >/dev/null 2>&1
    echo "$EPOCHREALTIME $begun" | awk '{ printf "%.2f\n", $1 - $2 }'
}
copy() { cp big copy && sync copy; }
put() { /usr/bin/time -f %M -o memory "$pond" put big /big; }
get() { /usr/bin/time -f %M -o memory "$pond" get /big out; }
plain() { cp big copy; }
median() { sort -n "$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
largest() { sort -n "$1" | tail -1; }

for _ in $(seq "$rounds"); do
    rm -rf .pond copy out
    sync
    seconds copy >>cp_sync
    rm -f copy
    "$pond" init 2>/dev/null
    sync
    seconds put >>put
    cat memory >>put_memory
    sync
    seconds plain >>cp
    rm -f copy
    seconds get >>get
    cat memory >>get_memory
    cmp big out
done
for what in cp_sync put cp get; do
    printf '%-8s %s\n' "$what" "$(tr '\n' ' ' <"$what")"
done
ratio() { echo "$(median "$1") $(median "$2")" | awk '{ printf "%.2f", $1 / $2 }'; }
printf 'put / (cp and sync)  %s, %s KiB\n' "$(ratio put cp_sync)" "$(largest put_memory)"
printf 'get / cp             %s, %s KiB\n' "$(ratio get cp)" "$(largest get_memory)"
