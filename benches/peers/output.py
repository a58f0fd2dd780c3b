#!/usr/bin/env python3
"""10,000,000 rows of 5 columns as text, in turn with DuckDB in the same run.

    cargo build --release
    benches/peers/output.py --pond target/release/pond --duckdb PATH --dir DIR [--rounds 5]

`--duckdb` is the native binary, not a wrapper; it also makes the data in DIR, once: a Parquet file of
numbers, times, names, measurements and flags, which pond reads through a mount. Each format goes to a
file and to /dev/null. DuckDB's shell is the peer; for CSV and NDJSON its COPY is the second one. The
medians of wall time, of CPU time and the largest resident set are printed with pond's ratio to each.
"""

import argparse
import os
import statistics
import time

ROWS = 10_000_000
COLUMNS = (
    "i AS id, TIMESTAMP '2025-01-01' + INTERVAL (i) SECOND AS ts, "
    "'station_' || lpad((hash(i) % 50)::VARCHAR, 3, '0') AS name, "
    "round(12 + 9 * sin(i / 86400.0 * 6.2832) + 4 * random(), 2) AS x, random() < 0.02 AS flag"
)


def run(command, out=os.devnull):
    """Runs a command; returns wall ms, CPU ms and peak MiB."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    begun = time.perf_counter()
    to = (os.POSIX_SPAWN_OPEN, 1, out, flags, 0o644)
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[to])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begun
    if status != 0:
        raise SystemExit(f"{command} ended with {status}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, usage.ru_maxrss / 1024


def medians(rounds, *sides):
    """Runs the sides, each a command and where its output goes, turn by turn."""
    costs = [[] for _ in sides]
    for _ in range(rounds):
        for (command, out), cost in zip(sides, costs):
            # What the last one left to write is not this one's cost.
            os.sync()
            cost.append(run(command, out))
    return [tuple(statistics.median(part) for part in zip(*cost)) for cost in costs]


def show(name, pond, *peers):
    line = f"{name:22} {pond[0]:9.1f} ms {pond[1]:9.1f} CPU {pond[2]:6.0f} MiB"
    for peer in peers:
        line += f"  | {peer[0]:9.1f} {peer[1]:9.1f} {peer[2]:6.0f}"
        line += f"  {pond[0] / peer[0]:6.2f} {pond[1] / peer[1]:6.2f} {pond[2] / peer[2]:6.2f}"
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pond", required=True)
    parser.add_argument("--duckdb", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    dir = os.path.abspath(options.dir)
    os.makedirs(f"{dir}/data", exist_ok=True)
    rows, pond_dir = f"{dir}/data/rows.parquet", f"{dir}/pond"

    def duck(query, *mode):
        return [options.duckdb, "-init", "/dev/null", *mode, "-c", query]

    if not os.path.exists(rows):
        made = f"SELECT {COLUMNS} FROM range({ROWS}) t(i)"
        run(duck(f"SELECT setseed(0.42); COPY ({made}) TO '{rows}' (FORMAT parquet, COMPRESSION zstd)"))
    base = [options.pond, "--pond", pond_dir]
    if not os.path.isdir(pond_dir):
        run([*base, "init"])
        run([*base, "sql", f"CREATE NODE '/host' FACTORY hostmount WITH (directory = '{dir}/data')"])

    print(f"{'':22} {'pond: wall':>12} {'':>13} {'peak':>10}  | the peer's, and the ratios")
    query = f"SELECT * FROM '{rows}'"
    for name, mode, copied in (("csv", "-csv", "csv"), ("ndjson", "-jsonlines", "json"), ("table", "-table", None)):
        ours = [*base, "sql", "--format", name, "SELECT * FROM '/host/rows.parquet'"]
        for target in (f"{dir}/out", os.devnull):
            sides = [(ours, target), (duck(query, mode), target)]
            if copied:
                sides.append((duck(f"COPY ({query}) TO '{target}' (FORMAT {copied})"), os.devnull))
            where = "/dev/null" if target == os.devnull else "a file"
            show(f"{name} to {where}", *medians(options.rounds, *sides))
    os.unlink(f"{dir}/out")


if __name__ == "__main__":
    main()
