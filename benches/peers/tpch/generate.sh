#!/bin/sh
# Writes the eight TPC-H tables at a scale factor as Parquet, one file each, with the generator
# from PyPI: generate.sh DIRECTORY [SCALE]
set -eu
directory=$1
scale=${2:-1}
mkdir -p "$directory"
if [ ! -x "$directory/.venv/bin/tpchgen-cli" ]; then
    python3 -m venv "$directory/.venv"
    "$directory/.venv/bin/pip" install --quiet tpchgen-cli
fi
"$directory/.venv/bin/tpchgen-cli" parquet --scale-factor "$scale" --output-dir "$directory"
