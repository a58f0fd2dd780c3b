#!/usr/bin/env bash
# The second backup after a change of one node, against the first, and the first against `cp -r` and a
# sync.
#
#   benches/peers/backup.sh target/release/pond [NODES [MEGABYTES [DIR]]]
#
# Makes a pond of so many files (by default 10,000 of 5,000 MB together) of noise in a directory in DIR
# (by default /var/tmp), which needs room for three times that. Prints each time in seconds, what the
# backups say travelled, and the ratios.
set -euo pipefail
pond=$(realpath "$1")
nodes=${2:-10000}
megabytes=${3:-5000}
work=$(mktemp -d -p "${4:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
cd "$work"
size=$((megabytes * 1000000 / nodes))
mkdir files
# One stream of noise, cut into files.
head -c $((size * nodes)) /dev/urandom | split -a 5 -d -b "$size" - files/f
"$pond" init 2>/dev/null
"$pond" -q put files /
rm -r files
sync

seconds() {
    local begun=$EPOCHREALTIME
    "$@" >/dev/null 2>>said
    echo "$EPOCHREALTIME $begun" | awk '{ printf "%.3f\n", $1 - $2 }'
}
copy() { cp -r .pond copy && sync -f copy; }
median() { sort -n "$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

seconds copy >cp
rm -r copy
sync
backup() { /usr/bin/time -f %M -o memory "$pond" backup safe; }
seconds backup >first
cp memory first_memory
sync
for round in 1 2 3 4 5; do
    echo "change $round" >changed
    "$pond" -q put changed /files/f00007
    seconds backup >>second
done
"$pond" fsck --against safe >/dev/null 2>>said || echo damaged
for what in cp first second; do
    printf '%-7s %s\n' "$what" "$(tr '\n' ' ' <"$what")"
done
cat said
ratio() { echo "$(median "$1") $(median "$2")" | awk '{ printf "%.5f", $1 / $2 }'; }
printf 'second / first       %s\n' "$(ratio second first)"
printf 'first / (cp, sync)   %s, %s KiB\n' "$(ratio first cp)" "$(tail -1 first_memory)"
