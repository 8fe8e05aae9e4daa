"""The registry server against Debian's docker-registry, in one run on one machine: ratios, not absolute numbers.

    python benchmarks/bench_registry.py [--size MIB] [--seconds S] [--rounds N] [--workers N] [--json]

Measures manifest GET and GET of a small blob (wrk, 16 connections), GET of a large blob over one connection and over
16, and blob upload in the two ways that clients use: one PATCH with a chunked body then PUT (docker, podman, skopeo),
and one PUT of known length (regclient, crane). Rounds alternate between the servers, and which of them begins; medians
count. Upload times include the commit to disk of both servers. CPU is that of the server's process over all rounds: it
says what a busy machine's wall time hides.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import discard

MIB = 1 << 20
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SMALL = 16 << 10
CONNECTIONS = 16


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server and what was measured of it: per measure, one figure and one CPU time (s) a round."""

    address: str
    process_id: int
    figures: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)

    def spent(self) -> float:
        """CPU seconds of the process and the children that it has waited for or that run (its workers)."""
        total, todo = 0, [self.process_id]
        while todo:
            number = todo.pop()
            with open(f"/proc/{number}/stat", encoding="utf-8") as stat:
                fields = stat.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
            with open(f"/proc/{number}/task/{number}/children", encoding="utf-8") as children:
                todo += [int(child) for child in children.read().split()]
        return total / os.sysconf("SC_CLK_TCK")

    def measure(self, name: str, work: Callable[[], float]) -> None:
        """Note the figure that the work returns and what it cost."""
        before = self.spent()
        self.figures.setdefault(name, []).append(work())
        self.cpu.setdefault(name, []).append(self.spent() - before)


@contextmanager
def process(command: list[str], address: str, directory: str) -> Iterator[Server]:
    with open(f"{directory}/log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    if call(address, "GET", "/v2/")[0] == 200:
                        break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield Server(address, server.pid)
        finally:
            server.terminate()


@contextmanager
def lamina(directory: str, workers: int) -> Iterator[Server]:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "lamina.registry", "--addr", address, "--root", f"{directory}/root"]
    command += ["--workers", str(workers)]
    with process(command, address, directory) as running:
        yield running


@contextmanager
def peer(directory: str) -> Iterator[Server]:
    address = f"127.0.0.1:{free_port()}"
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": f"{directory}/root"}, "cache": {"blobdescriptor": "inmemory"}},
        "http": {"addr": address},
    }
    with open(f"{directory}/config.yml", "w", encoding="utf-8") as file:
        json.dump(config, file)
    with process(["docker-registry", "serve", f"{directory}/config.yml"], address, directory) as running:
        yield running


def call(address: str, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        response.read()
        return response.status, dict(response.headers)
    finally:
        connection.close()


def begin(address: str) -> str:
    status, headers = call(address, "POST", "/v2/bench/app/blobs/uploads/")
    assert status == 202, status
    location = headers["Location"]
    return location if location.startswith("http") else f"http://{address}{location}"


def curl(*arguments: str) -> dict[str, str]:
    """Run curl, fail on an HTTP error, return the answer's headers by lower-case name."""
    done = subprocess.run(
        ["curl", "-sS", "-f", "-D", "-", "-o", "/dev/null", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in done.stdout.splitlines())
    }


def with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def seed(address: str, blob: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    config = b"{}"
    for data in (config, blob):
        named = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = with_digest(begin(address), named).removeprefix(f"http://{address}")
        assert call(address, "PUT", path, data, "application/octet-stream")[0] == 201
    described = [
        {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}
        for kind, data in (
            ("application/vnd.oci.image.config.v1+json", config),
            ("application/vnd.oci.image.layer.v1.tar", blob),
        )
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:] * 8}
    status, _ = call(address, "PUT", "/v2/bench/app/manifests/latest", json.dumps(manifest).encode(), MANIFEST)
    assert status == 201, status
    return digest


def request_rate(address: str, path: str, seconds: int) -> float:
    """Requests per second over 16 connections."""
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "-H",
        f"Accept: {MANIFEST}",
        f"http://{address}{path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found
    return float(found[1])


def timed(size: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return size / 1e6 / (time.perf_counter() - start)


def upload_patch(address: str, path: str, digest: str) -> None:
    chunked = ("-X", "PATCH", "-H", "Transfer-Encoding: chunked", "-H", "Expect:")
    location = curl(*chunked, "-T", path, begin(address))["location"]
    location = location if location.startswith("http") else f"http://{address}{location}"
    curl("-X", "PUT", "-H", "Content-Length: 0", with_digest(location, digest))


def upload_put(address: str, path: str, digest: str) -> None:
    curl("-H", "Expect:", "-T", path, with_digest(begin(address), digest))


def measure(server: Server, fresh: Callable[[], tuple[str, str]], size: int, seconds: int) -> None:
    """One round of everything."""
    address = server.address
    small, large = (f"/v2/bench/app/blobs/{server.digests[length]}" for length in (SMALL, size))

    def get(connections: int) -> float:
        return discard.rate(address, large, connections=connections, requests=max(8, connections)) / 1e6

    server.measure("manifest GET req/s", lambda: request_rate(address, "/v2/bench/app/manifests/latest", seconds))
    server.measure("small blob GET req/s", lambda: request_rate(address, small, seconds))
    server.measure("blob GET MB/s", lambda: get(1))
    server.measure("blob GET x16 MB/s", lambda: get(CONNECTIONS))
    for name, upload in (("upload PATCH MB/s", upload_patch), ("upload PUT MB/s", upload_put)):
        path, named = fresh()
        server.measure(name, lambda: timed(size, lambda: upload(address, path, named)))  # noqa: B023 - called at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="blob size in MiB")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement of requests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="lamina's server processes")
    parser.add_argument("--json", action="store_true", help="print every round's figures as JSON")
    options = parser.parse_args()
    missing = [program for program in ("docker-registry", "wrk", "curl") if shutil.which(program) is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    size = options.size * MIB
    base = bytearray(os.urandom(size))
    with ExitStack() as stack:
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-registry-"))
        source = f"{work}/blob"

        def fresh() -> tuple[str, str]:
            """A blob that no server has seen."""
            base[:16] = os.urandom(16)
            with open(source, "wb") as file:
                file.write(base)
                file.flush()
                os.fsync(file.fileno())
            return source, f"sha256:{hashlib.sha256(base).hexdigest()}"

        servers: dict[str, Server] = {}
        for name, start in (("docker-registry", peer), ("lamina", lambda at: lamina(at, options.workers))):
            os.mkdir(f"{work}/{name}")
            servers[name] = stack.enter_context(start(f"{work}/{name}"))
        for server in servers.values():
            server.digests = {length: seed(server.address, bytes(base[:length])) for length in (SMALL, size)}
        for number in range(options.rounds):
            for server in list(servers.values())[:: -1 if number % 2 else 1]:
                measure(server, fresh, size, options.seconds)
    if options.json:
        print(json.dumps({name: server.figures for name, server in servers.items()}))
    else:
        report(servers["docker-registry"], servers["lamina"])


def report(peer_: Server, ours: Server) -> None:
    """Medians side by side, and how much CPU the servers took for the same work (for rates: per request)."""
    print(f"{'':22}{'docker-registry':>16}{'lamina':>12}{'ratio':>8}{'CPU ratio':>11}")
    for name in ours.figures:
        theirs, mine = (statistics.median(server.figures[name]) for server in (peer_, ours))
        cpu = sum(ours.cpu[name]) / max(sum(peer_.cpu[name]), 0.01)
        if "req/s" in name:
            cpu *= theirs / mine  # the time is fixed there, not the work
        print(f"{name:22}{theirs:16.0f}{mine:12.0f}{mine / theirs:8.2f}{cpu:11.2f}")


if __name__ == "__main__":
    main()
