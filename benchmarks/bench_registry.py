"""The registry server against Debian's docker-registry, in one run on one machine: ratios, not absolute numbers.

    python benchmarks/bench_registry.py [--size MIB] [--seconds S] [--rounds N] [--workers N]

Measures manifest GET (wrk, 16 connections), blob GET, and blob upload in the two ways that clients use: one PATCH with
a chunked body then PUT (docker, podman, skopeo), and one PUT of known length (regclient, crane). Rounds alternate
between the servers; the best round of each counts. Upload times include the commit to disk of both servers.
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

MIB = 1 << 20
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEASURES = ("manifest GET req/s", "blob GET MB/s", "upload PATCH MB/s", "upload PUT MB/s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], address: str, directory: str) -> Iterator[str]:
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
            yield address
        finally:
            server.terminate()


@contextmanager
def lamina(directory: str, workers: int) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "lamina.registry", "--addr", address, "--root", f"{directory}/root"]
    command += ["--workers", str(workers)]
    with process(command, address, directory) as running:
        yield running


@contextmanager
def peer(directory: str) -> Iterator[str]:
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


def manifest_rate(address: str, seconds: int) -> float:
    accept = f"Accept: {MANIFEST}"
    url = f"http://{address}/v2/bench/app/manifests/latest"
    done = subprocess.run(
        ["wrk", "-t1", "-c16", f"-d{seconds}s", "-H", accept, url], capture_output=True, text=True, check=True
    )
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


def measure(address: str, digest: str, fresh: Callable[[], tuple[str, str]], size: int, seconds: int) -> list[float]:
    url = f"http://{address}/v2/bench/app/blobs/{digest}"
    results = [manifest_rate(address, seconds), timed(size, lambda: curl(url))]
    for upload in (upload_patch, upload_put):
        path, named = fresh()
        results.append(timed(size, lambda: upload(address, path, named)))  # noqa: B023 - called at once
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="blob size in MiB")
    parser.add_argument("--seconds", type=int, default=3, help="length of one manifest measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="lamina's server processes")
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

        servers: dict[str, str] = {}
        for name, start in (("docker-registry", peer), ("lamina", lambda at: lamina(at, options.workers))):
            os.mkdir(f"{work}/{name}")
            servers[name] = stack.enter_context(start(f"{work}/{name}"))
        digests = {name: seed(address, bytes(base)) for name, address in servers.items()}
        best: dict[str, list[float]] = {name: [0.0] * len(MEASURES) for name in servers}
        for _ in range(options.rounds):
            for name, address in servers.items():
                found = measure(address, digests[name], fresh, size, options.seconds)
                best[name] = [max(pair) for pair in zip(best[name], found, strict=True)]
    print(f"{'':22}{'docker-registry':>16}{'lamina':>12}{'ratio':>8}")
    for number, measure_name in enumerate(MEASURES):
        theirs, ours = best["docker-registry"][number], best["lamina"][number]
        print(f"{measure_name:22}{theirs:16.0f}{ours:12.0f}{ours / theirs:8.2f}")


if __name__ == "__main__":
    main()
