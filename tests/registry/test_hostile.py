"""Clients that mean harm: too large, too slow, too many, too clever. Each attack stands beside its honest twin."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lamina.registry.config import MIB, RegistryConfig
from lamina.testing.registry import registry_process, running_registry
from lamina.testing.registry_client import Client, digest_of


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def answer(connection: socket.socket) -> bytes:
    """Everything until the server closes; a reset ends it as well."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def resident(process_id: int) -> int:
    """Memory of a process in bytes."""
    fields = Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


# -- size


def test_a_manifest_of_four_mebibytes_is_stored(client: Client, repository: str) -> None:
    # R09: the twin of the next two
    data = json.dumps(client.image(repository)).encode().ljust(4 * MIB)
    assert client.push_manifest(repository, "v1", data).status == 201
    assert client.get(f"/v2/{repository}/manifests/v1").body == data


def test_a_larger_manifest_is_refused(client: Client, repository: str) -> None:
    # threat 14
    data = json.dumps(client.image(repository)).encode().ljust(4 * MIB + 1)
    reply = client.push_manifest(repository, "v1", data)
    assert (reply.status, reply.codes) == (413, ["MANIFEST_INVALID"])


def test_an_announced_size_is_refused_before_the_body_comes(address: str) -> None:
    # threat 14
    with connect(address) as connection:
        connection.sendall(b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_an_endless_manifest_is_refused(address: str) -> None:
    # threats 14, 46
    chunk = b"%x\r\n%s\r\n" % (MIB, b"x" * MIB)
    with connect(address) as connection:
        connection.sendall(b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            connection.sendall(chunk)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_blob_past_the_limit_is_refused_and_dropped(tmp_path: Path) -> None:
    # threat 54
    with running_registry(str(tmp_path), RegistryConfig(max_blob_bytes=1000)) as address:
        client = Client(address)
        client.push_blob("a", b"x" * 1000)
        location = client.begin("a")
        assert client.request("PATCH", location, b"x" * 600).status == 202
        reply = client.request("PATCH", location, b"x" * 600)
        assert (reply.status, reply.codes) == (413, ["BLOB_UPLOAD_INVALID"])
        assert client.get(location).status == 404
        assert client.request("POST", f"/v2/a/blobs/uploads/?digest={digest_of(b'y')}", b"y" * 1001).status == 413
        assert list((tmp_path / "uploads").iterdir()) == []


def test_memory_stays_flat(tmp_path: Path) -> None:
    # threats 46, 53: bodies of any size, and any number of tags, in a process whose memory is watched; either of these
    # would take twice the bound if it were held as a whole
    with registry_process(str(tmp_path)) as (address, process):
        client = Client(address)
        digest = client.push_image("a", "v1")
        client.push_blob("a", os.urandom(3 * MIB))
        client.get("/v2/a/tags/list")
        with sqlite3.connect(tmp_path / "registry.db") as database:
            database.execute("PRAGMA synchronous=OFF")
            numbers = "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers LIMIT 400000) "
            made = "INSERT INTO tags (repository_id, name, digest) SELECT 1, printf('t%07d', n), ? FROM numbers"
            database.execute(numbers + made, (digest,))
        database.close()
        before = resident(process.pid)
        assert len(client.get(f"/v2/a/tags/list?n={2**31}").json()["tags"]) == 10_000
        megabyte = os.urandom(MIB)
        location = client.begin("a")
        assert client.request("PATCH", location, (megabyte for _ in range(80))).status == 202
        assert (grown := resident(process.pid) - before) < 40 * MIB, grown


# -- time


BLOB = os.urandom(30 * MIB)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry whose timeouts are short, and what was pushed while they were not: `a` with `v1`, `large` and BLOB."""
    root = str(tmp_path_factory.mktemp("impatient"))
    with running_registry(root) as running:
        client = Client(running)
        client.push_image("a", "v1")
        client.push_blob("a", BLOB)
        client.push_manifest("a", "large", json.dumps(client.image("a")).encode().ljust(4 * MIB))
    config = RegistryConfig(keepalive_timeout=0.5, body_idle_timeout=0.5, min_rate=100, rate_window=0.5)
    with running_registry(root, config) as running:
        yield running


def test_requests_that_never_end_are_cut_while_others_are_served(impatient: str) -> None:
    # threat 54: slow-loris
    client = Client(impatient)
    with ExitStack() as stack:
        lorises = [stack.enter_context(connect(impatient)) for _ in range(200)]
        for loris in lorises:
            loris.sendall(b"GET /v2/ HTTP/1.1\r\nHost: h\r\nX-")
        for _ in range(20):
            assert client.get("/v2/a/manifests/v1").status == 200
        for loris in lorises:
            assert answer(loris) == b""


def test_a_body_that_stands_still_is_cut(impatient: str) -> None:
    # threat 54
    client = Client(impatient)
    location = client.begin("a")
    with connect(impatient) as connection:
        connection.sendall(f"PATCH {location} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc".encode())
        assert answer(connection).startswith(b"HTTP/1.1 408 ")
    assert client.get(location).headers["Range"] == "0-2"


def test_a_body_that_trickles_is_cut(impatient: str) -> None:
    # threat 54: always something, never enough
    client = Client(impatient)
    location = client.begin("a")
    received = b""
    with connect(impatient) as connection:
        connection.sendall(f"PATCH {location} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n".encode())
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b"x")
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("what", ["blob", "manifest"])
def test_a_reader_that_stops_is_dropped(impatient: str, what: str) -> None:
    # threat 54
    client = Client(impatient)
    path = f"/v2/a/blobs/{digest_of(BLOB)}" if what == "blob" else "/v2/a/manifests/large"
    host, port = impatient.split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode() * 8)
        with pytest.raises(OSError):
            # A connection that is gone answers the next byte with a reset; one that lives takes it and waits.
            for byte in b"GET /v2/ HTTP/1.1\r\nX: ".ljust(600, b"x"):
                connection.send(bytes([byte]))
                select.select([], [], [connection], 0.05)
    assert client.get("/v2/").status == 200


def test_upload_sessions_are_limited(tmp_path: Path) -> None:
    # threat 54
    with running_registry(str(tmp_path), RegistryConfig(max_uploads=3)) as address:
        client = Client(address)
        locations = [client.begin("a") for _ in range(3)]
        refused = client.request("POST", "/v2/a/blobs/uploads/")
        assert (refused.status, refused.codes, refused.headers["Retry-After"]) == (429, ["TOOMANYREQUESTS"], "1")
        client.push_blob("a", b"a blob in one request needs no session")
        client.request("DELETE", locations[0])
        client.begin("a")


# -- names


@pytest.mark.parametrize(
    "path",
    [
        "/v2/%2e%2e/%2e%2e/manifests/x",
        "/v2/..%2f..%2fetc/manifests/passwd",
        "/v2/../../etc/passwd",
        "/v2/a/blobs/uploads/..%2f..%2fregistry.db",
        "/v2/a/blobs/uploads/%2e%2e",
        "/v2/a/blobs/sha256:..%2f..%2f..%2fregistry.db",
        "/v2/a/manifests/%00",
        "/v2/a%00b/manifests/x",
        "/v2/a/manifests/..",
        "/v2/_uploads/blobs/uploads/",
        "/v2/" + "a" * 300 + "/manifests/x",
        "/v2/a/blobs/uploads/" + "0" * 32,
        "/v2/a/blobs/uploads/single-" + "0" * 32,
        "/v2/%zz/manifests/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST"])
def test_paths_that_climb(client: Client, method: str, path: str) -> None:
    # threat 49
    query = f"?digest={digest_of(b'')}"
    assert client.request(method, path + query).status in {400, 404, 405}


@pytest.mark.parametrize("source", ["..", "../a", "a/%2e%2e", "%00", "A", "a" * 300])
def test_mount_sources_that_climb(client: Client, repository: str, source: str) -> None:
    # threat 49
    reply = client.request("POST", f"/v2/{repository}/blobs/uploads/?mount={digest_of(b'x')}&from={source}")
    assert (reply.status, reply.codes) == (400, ["NAME_INVALID"])


def test_too_many_query_fields(client: Client) -> None:
    reply = client.get("/v2/a/tags/list?" + "&".join(f"a{number}" for number in range(300)))
    assert reply.status == 400


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"nonsense\r\n\r\n",
    ],
)
def test_requests_that_are_none(address: str, head: bytes) -> None:
    with connect(address) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        received = answer(connection)
    assert received == b"" or received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), received[:100]
    assert Client(address).get("/v2/").status == 200


# -- state on disk, and logs


def test_nothing_on_disk_is_readable_by_others_whatever_the_umask(tmp_path: Path) -> None:
    # threat 59
    root = tmp_path / "root"
    with registry_process(str(root), umask=0) as (address, _):
        client = Client(address)
        client.push_image("a", "v1")
        client.request("PATCH", client.begin("a"), b"partial")
        modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [root, *root.rglob("*")]}
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
    assert len(modes) > 10


def test_logs_hold_no_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # threat 60
    caplog.set_level(logging.DEBUG)
    with running_registry(str(tmp_path), RegistryConfig(access_log=True)) as address:
        client = Client(address)
        secret = {"Authorization": "Bearer canary-one", "Cookie": "canary-two"}
        client.request("GET", "/v2/a/tags/list?token=canary-three", headers=secret)
        client.request("POST", "/v2/a/blobs/uploads/?digest=canary-four", headers=secret)
        client.push_image("a", "v1")
    assert "canary" not in caplog.text
    assert "GET /v2/a/tags/list 404" in caplog.text
