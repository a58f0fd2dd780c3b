#!/usr/bin/env python3
"""W4 and W8b: CSV, read directly, converted and cached, in turn with DuckDB in the same run.

    cargo build --release
    benches/peers/csv.py --pond target/release/pond --duckdb PATH --dir DIR [--rounds 7]

`--duckdb` is the native binary, not a wrapper; it also makes the data in DIR, once: 20 million rows of
sensors (1 GB), and 1,000 files of 1,000 rows. Every command is a process of its own. `in session` is
what a statement adds to a process that has run it before. The medians of wall time, of CPU time and
the largest resident set are printed with pond's ratio to the peer.
"""

import argparse
import os
import shutil
import statistics
import time

ROWS, FILES, FILE_ROWS = 20_000_000, 1_000, 1_000
COLUMNS = (
    "{'timestamp': 'TIMESTAMP', 'station': 'VARCHAR', 'temperature': 'DOUBLE', "
    "'humidity': 'DOUBLE', 'pressure': 'DOUBLE', 'status': 'VARCHAR'}"
)
QUERIES = {
    "count": "SELECT count(*) FROM {t}",
    "group by": "SELECT station, count(*), avg(temperature) FROM {t} GROUP BY station",
    "one day": "SELECT avg(temperature), count(*) FROM {t} WHERE timestamp >= TIMESTAMP "
    "'2025-05-01 00:00:00' AND timestamp < TIMESTAMP '2025-05-02 00:00:00'",
    "top 10": "SELECT * FROM {t} ORDER BY temperature DESC LIMIT 10",
    "hourly mean": "SELECT date_trunc('hour', timestamp) AS hour, avg(temperature) FROM {t} GROUP BY 1",
}


def run(command):
    """Runs a command; returns wall ms, CPU ms and peak MiB."""
    begun = time.perf_counter()
    null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[null])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begun
    if status != 0:
        raise SystemExit(f"{command} ended with {status}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, usage.ru_maxrss / 1024


def medians(rounds, *sides):
    """Runs the sides turn by turn. A side is a command, or a function to call and then a command."""
    costs = [[] for _ in sides]
    for _ in range(rounds):
        for side, cost in zip(sides, costs):
            before, command = side if isinstance(side, tuple) else (None, side)
            if before:
                before()
            cost.append(run(command))
    return [tuple(statistics.median(part) for part in zip(*cost)) for cost in costs]


def show(name, pond, *peers):
    line = f"{name:34} {pond[0]:9.1f} ms {pond[1]:9.1f} CPU {pond[2]:6.0f} MiB"
    for peer in peers:
        line += f"  | {peer[0]:9.1f} {peer[1]:9.1f} {peer[2]:6.0f}"
        line += f"  {pond[0] / peer[0]:6.2f} {pond[1] / peer[1]:6.2f} {pond[2] / peer[2]:6.2f}"
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pond", required=True)
    parser.add_argument("--duckdb", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="abcdsm")
    options = parser.parse_args()
    dir = os.path.abspath(options.dir)
    os.makedirs(dir, exist_ok=True)
    big, small = f"{dir}/big/sensor.csv", f"{dir}/small"

    def duck(query, database=None):
        database = [database] if database else []
        return [options.duckdb, *database, "-init", "/dev/null", "-csv", "-c", query]

    def rows(start, count):
        return (
            f"SELECT strftime(TIMESTAMP '2025-01-01' + INTERVAL ({start} + i) SECOND, "
            "'%Y-%m-%dT%H:%M:%S') AS timestamp, "
            "'station_' || lpad((hash(i) % 50)::VARCHAR, 3, '0') AS station, "
            "round(12 + 9 * sin(i / 86400.0 * 6.2832) + 4 * random(), 2) AS temperature, "
            "round(40 + 40 * random(), 1) AS humidity, "
            "round(1000 + 15 * sin(i / 900000.0) + random(), 1) AS pressure, "
            "CASE WHEN random() < 0.02 THEN 'fault' ELSE 'ok' END AS status "
            f"FROM range({count}) t(i)"
        )

    if not os.path.exists(big):
        os.makedirs(os.path.dirname(big), exist_ok=True)
        run(duck(f"SELECT setseed(0.42); COPY ({rows(0, ROWS)}) TO '{big}' (HEADER)"))
    if not os.path.isdir(small):
        os.makedirs(small)
        copies = [
            f"COPY ({rows(number * FILE_ROWS, FILE_ROWS)}) TO '{small}/{number:04}.csv' (HEADER)"
            for number in range(FILES)
        ]
        for start in range(0, FILES, 100):
            run(duck(f"SELECT setseed({start / FILES}); " + "; ".join(copies[start : start + 100])))

    pond_dir = f"{dir}/pond"
    base = [options.pond, "--pond", pond_dir]

    def pond(query):
        return [*base, "sql", query]

    if not os.path.isdir(pond_dir):
        run([*base, "init"])
        run(pond(f"CREATE NODE '/host' FACTORY hostmount WITH (directory = '{dir}')"))
        for name, pattern, kind in (
            ("big", "/host/big/*.csv", "series"),
            ("small", "/host/small/*.csv", "table"),
        ):
            recipe = f"source_pattern = '{pattern}', target_type = '{kind}', cache_ttl = '1000 hours'"
            run(pond(f"CREATE NODE '/{name}' FACTORY csv_directory WITH ({recipe})"))
    series, text, read_csv = "'/big/sensor.series'", "'/host/big/sensor.csv'", f"read_csv('{big}')"
    ordered, unordered = f"{dir}/ordered.parquet", f"{dir}/unordered.parquet"
    native = f"{dir}/native.duckdb"

    def clear():
        run([*base, "cache", "clear"])

    print(f"{'':34} {'pond: wall':>12} {'':>13} {'peak':>10}  | the peer's, and the ratios")
    group = QUERIES["group by"]
    if "a" in options.only:
        copy = f"COPY (SELECT * FROM {read_csv}) TO '{ordered}' (FORMAT parquet, COMPRESSION zstd)"
        fast = (
            "SET preserve_insertion_order = false; "
            f"COPY (SELECT * FROM {read_csv}) TO '{unordered}' (FORMAT parquet, COMPRESSION lz4)"
        )
        costs = medians(
            options.rounds,
            (clear, pond(group.format(t=series))),
            duck(f"{copy}; {group.format(t=repr(ordered))}"),
            duck(f"{fast}; {group.format(t=repr(unordered))}"),
        )
        show("W4a converted, answered", *costs)
        costs = medians(
            options.rounds,
            [*base, "sql", f"REFRESH NODE {series}"],
            duck(copy),
        )
        show("W8b conversion", *costs)
    if "s" in options.only:
        run(pond(group.format(t=series)))
        cached = 0
        for parent, _, names in os.walk(f"{pond_dir}/cache/csv/files"):
            sizes = [os.path.getsize(os.path.join(parent, name)) for name in names]
            cached = max([cached, *sizes])
        peer = os.path.getsize(ordered)
        print(f"size: {cached / 2**20:.1f} MiB, DuckDB zstd {peer / 2**20:.1f}: {cached / peer:.2f}")
    if "b" in options.only:
        for name in ("count", "group by", "one day", "top 10"):
            query = QUERIES[name]
            costs = medians(
                options.rounds, pond(query.format(t=text)), duck(query.format(t=read_csv))
            )
            show(f"W4b directly: {name}", *costs)
    if "c" in options.only:
        if not os.path.exists(native):
            run(duck(f"CREATE TABLE readings AS SELECT * FROM {read_csv}", native))
        run(pond(group.format(t=series)))
        times = 20
        for name in ("one day", "group by", "hourly mean"):
            query = QUERIES[name]
            sides = [
                (pond, query.format(t=series), None),
                (duck, query.format(t=repr(ordered)), None),
                (lambda text: duck(text, native), query.format(t="readings"), None),
            ]
            once = medians(options.rounds, *(make(text) for make, text, _ in sides))
            show(f"W4c one-shot: {name}", *once)
            many = medians(
                options.rounds, *(make("; ".join([text] * (times + 1))) for make, text, _ in sides)
            )
            session = [
                tuple((m - o) / times for m, o in zip(most[:2], one[:2])) + (most[2],)
                for most, one in zip(many, once)
            ]
            show(f"W4c in session: {name}", *session)
    if "d" in options.only:
        declared = f"read_csv('{small}/*.csv', header = true, columns = {COLUMNS})"
        query = QUERIES["group by"]
        first = medians(
            options.rounds,
            (clear, pond(query.format(t="'/small/*.table'"))),
            duck(query.format(t=declared)),
        )
        show("W4d 1,000 files, first access", *first)
        run(pond(query.format(t="'/small/*.table'")))
        warm = medians(
            options.rounds,
            pond(query.format(t="'/small/*.table'")),
            duck(query.format(t=declared)),
        )
        show("W4d 1,000 files, again", *warm)

        def touch():
            os.utime(f"{small}/0500.csv")

        costs = medians(
            options.rounds,
            (touch, pond(query.format(t="'/small/0500.table'"))),
            pond(query.format(t="'/small/0500.table'")),
        )
        print(f"W4d one file touched, and read: {costs[0][0]:.1f} ms; not touched {costs[1][0]:.1f}")
        costs = medians(
            options.rounds,
            (touch, pond(query.format(t="'/small/*.table'"))),
            pond(query.format(t="'/small/*.table'")),
        )
        more = costs[0][0] - costs[1][0]
        print(
            f"W4d one file touched, all read: {costs[0][0]:.1f} ms, {more:.1f} more than untouched: "
            f"{more / first[0][0]:.3f} of the first access"
        )
    if "m" in options.only:
        costs = medians(options.rounds, pond(group.format(t=text)), duck(group.format(t=read_csv)))
        show("W8b cold query", *costs)
    shutil.rmtree(f"{dir}/tmp", ignore_errors=True)


if __name__ == "__main__":
    main()
