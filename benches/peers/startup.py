#!/usr/bin/env python3
"""W1 and W8a: what a fresh process costs, in turn with peers in the same run.

    cargo build --release
    benches/peers/startup.py --pond target/release/pond --duckdb PATH [--rounds 21]

`--duckdb` is the native binary, not a wrapper. Peers that are not given or not there are left out.
Each round runs every command once; the medians of wall time and of CPU time are printed with their
ratio to the peer, and the largest resident set.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time


def run(command, env):
    """Runs a command; returns wall ms, CPU ms and peak MiB."""
    begun = time.perf_counter()
    pid = os.posix_spawn(
        command[0], command, env,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begun
    if status != 0:
        raise SystemExit(f"{command} ended with {status}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pond", required=True)
    parser.add_argument("--duckdb")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    pond = os.path.abspath(options.pond)
    sqlite = shutil.which("sqlite3")

    with tempfile.TemporaryDirectory() as directory:
        home = os.path.join(directory, "pond")
        data = os.path.join(directory, "data")
        os.mkdir(data)
        with open(os.path.join(data, "small.txt"), "w") as file:
            file.write("hello\n")
        env = dict(os.environ, POND=home)
        quiet = {"env": env, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([pond, "init", home], **quiet)
        create = f"CREATE NODE '/host' FACTORY hostmount WITH (directory='{data}')"
        subprocess.run([pond, "sql", create], **quiet)

        commands = {
            "pond select 1": [pond, "sql", "select 1"],
            "pond ls": [pond, "ls", "/"],
            "pond cat": [pond, "cat", "/host/small.txt"],
        }
        if options.duckdb:
            commands["duckdb select 1"] = [os.path.abspath(options.duckdb), "-c", "select 1"]
        if sqlite:
            commands["sqlite3 select 1"] = [sqlite, ":memory:", "select 1"]

        samples = {name: [] for name in commands}
        for turn in range(options.rounds + 1):
            for name, command in commands.items():
                sample = run(command, env)
                if turn > 0:
                    samples[name].append(sample)

    medians = {
        name: [statistics.median(column) for column in zip(*rows)] for name, rows in samples.items()
    }
    print(f"{'command':<18} {'wall ms':>8} {'cpu ms':>8} {'peak MiB':>9}")
    for name, (wall, cpu, peak) in medians.items():
        print(f"{name:<18} {wall:8.2f} {cpu:8.2f} {peak:9.1f}")
    ratios = [
        ("W1a", "pond select 1", "duckdb select 1"),
        ("W1c", "pond ls", "sqlite3 select 1"),
        ("W1c", "pond cat", "sqlite3 select 1"),
    ]
    for figure, ours, theirs in ratios:
        if theirs in medians:
            wall, cpu, peak = (a / b for a, b in zip(medians[ours], medians[theirs]))
            print(f"{figure}: {ours} / {theirs}: wall {wall:.2f}, cpu {cpu:.2f}, peak {peak:.2f}")


if __name__ == "__main__":
    main()
