#!/usr/bin/env bash
# W3b: the flushes of one durable commit, counted by strace.
#
#   benches/peers/syncs.sh target/release/pond
#
# Prints each sync with the file or directory it is of; a CREATE NODE syncs its data file, the
# oplog's directory, the commit file and the log's directory, and nothing else.
set -euo pipefail
pond=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/data"
export POND="$work/pond"
"$pond" init "$POND" 2>/dev/null
strace -f -y -e trace=fsync,fdatasync -o "$work/trace" \
    "$pond" sql "CREATE NODE '/host' FACTORY hostmount WITH (directory='$work/data')" >/dev/null
sed -nE "s|.*(f(data)?sync)\([0-9]+<$work/?([^>]*)>.*|\1 \3|p" "$work/trace"
printf '%s flushes\n' "$(grep -cE 'f(data)?sync' "$work/trace")"
