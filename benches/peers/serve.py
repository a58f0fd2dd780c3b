#!/usr/bin/env python3
"""R4: 1,000 times `SELECT 1` over one connection, to `pond serve` and to PostgreSQL on loopback.

    cargo build --release
    benches/peers/serve.py --pond target/release/pond [--postgres /usr/lib/postgresql/15/bin]
                           [--user postgres] [--rounds 11]

Both servers are started on free ports in a temporary directory, PostgreSQL as `--user` if this is run
by root, which it refuses to be; both are ended by their process numbers. The client is the same for
both: this script, which speaks the protocol itself, so that next to nothing is its own. Each round runs
the simple and the extended protocol (parse, bind, describe, execute, sync in one message, as libpq
sends them) against both servers in turn; the medians and their ratio are printed. `others` is the simple
protocol with a text that was never sent before, `SELECT 17`, each time: what planning adds.
"""

import argparse
import os
import pwd
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import time

COUNT = 1000


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


SIMPLE = message(b"Q", b"SELECT 1\0")
NUMBERS = iter(range(1_000_000, 10**9))
EXTENDED = (
    message(b"P", b"\0SELECT 1\0\0\0")
    + message(b"B", b"\0\0\0\0\0\0\0\0")
    + message(b"D", b"P\0")
    + message(b"E", b"\0\0\0\0\0")
    + message(b"S", b"")
)


def connect(port):
    """Opens a session, without a password."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    client.sendall(struct.pack("!i", len(body) + 4) + body)
    until_ready(client)
    return client


def until_ready(client):
    """Reads up to the end of an answer; what is ready ends with six bytes of its own."""
    answer = b""
    while answer[-6:-1] != b"Z\0\0\0\5":
        part = client.recv(65536)
        if not part:
            raise SystemExit(f"the server hung up: {answer}")
        answer += part
    if b"SERROR\0" in answer or b"SFATAL\0" in answer:
        raise SystemExit(f"the server failed: {answer}")
    return answer


def timed(client, request):
    """Runs the statement so many times, or as many others; returns milliseconds."""
    requests = [request or message(b"Q", b"SELECT %d\0" % next(NUMBERS)) for _ in range(COUNT)]
    begun = time.perf_counter()
    for request in requests:
        client.sendall(request)
        answer = until_ready(client)
    elapsed = time.perf_counter() - begun
    assert b"SELECT 1\0" in answer, answer
    return elapsed * 1e3


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_postgres(bin_dir, user, directory):
    data = os.path.join(directory, "postgres")
    os.mkdir(data)
    as_user = {}
    if os.getuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(data, entry.pw_uid, entry.pw_gid)
        os.chmod(directory, 0o755)
        as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **as_user}
    initdb = [os.path.join(bin_dir, "initdb"), "-D", data, "-A", "trust", "-U", "postgres"]
    subprocess.run(initdb, check=True, **quiet)
    port = free_port()
    server = subprocess.Popen(
        [os.path.join(bin_dir, "postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", data],
        **quiet,
    )
    for _ in range(200):
        try:
            connect(port).close()
            return server, port
        except (OSError, SystemExit):
            time.sleep(0.05)
    server.kill()
    raise SystemExit("PostgreSQL did not start")


def start_pond(pond, directory):
    home = os.path.join(directory, "pond")
    subprocess.run([pond, "init", home], check=True, stderr=subprocess.DEVNULL)
    server = subprocess.Popen(
        [pond, "--pond", home, "serve", "--postgres", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    )
    line = server.stderr.readline()
    return server, int(line.split("127.0.0.1:")[1].split(";")[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pond", required=True)
    parser.add_argument("--postgres", default="/usr/lib/postgresql/15/bin")
    parser.add_argument("--user", default="postgres")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()

    directory = tempfile.mkdtemp()
    servers = []
    try:
        pond, pond_port = start_pond(os.path.abspath(options.pond), directory)
        servers.append(pond)
        postgres, postgres_port = start_postgres(options.postgres, options.user, directory)
        servers.append(postgres)
        clients = {"pond": connect(pond_port), "postgres": connect(postgres_port)}
        samples = {}
        for turn in range(options.rounds + 1):
            for protocol, request in (("simple", SIMPLE), ("extended", EXTENDED), ("others", None)):
                for name, client in clients.items():
                    sample = timed(client, request)
                    if turn > 0:
                        samples.setdefault((protocol, name), []).append(sample)
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
        for server in servers:
            server.wait(timeout=20)
        shutil.rmtree(directory, ignore_errors=True)

    print(f"{'protocol':<10} {'pond ms':>9} {'postgres ms':>12} {'ratio':>6}")
    for protocol in ("simple", "extended", "others"):
        ours, theirs = (statistics.median(samples[protocol, name]) for name in ("pond", "postgres"))
        print(f"{protocol:<10} {ours:9.1f} {theirs:12.1f} {ours / theirs:6.2f}")


if __name__ == "__main__":
    main()
