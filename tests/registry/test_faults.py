"""Crashes, races, slow disks and rotten bits: a client sees the old state or the new one, never half of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import socket
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from lamina.registry.config import MIB, RegistryConfig
from lamina.registry.content import Content, open_directory
from lamina.registry.metadata.protocol import UploadRecord
from lamina.registry.metadata.sql import SqlMetadata
from lamina.registry.names import Repository
from lamina.registry.scrub import Scrubber
from lamina.registry.service import Registry, open_registry
from lamina.spec.digest import Digest
from lamina.store.backends.driver import Upload
from lamina.store.backends.filesystem import FilesystemDriver
from lamina.store.files import StoreIOFailed
from lamina.testing.registry import registry_process, running, running_registry
from lamina.testing.registry_client import Client, digest_of

DATA = random.Random(54).randbytes(3 * MIB)


def send_part(address: str, location: str, data: bytes, announced: int, start: int = 0) -> socket.socket:
    """Begin a PATCH at `start` that announces more than it sends; the connection stays open.

    It says where it goes: a server may read it only after the client has come back to resume, and would append it then.
    """
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    place = f"Content-Range: {start}-{start + announced - 1}\r\nContent-Length: {announced}\r\n"
    connection.sendall(f"PATCH {location} HTTP/1.1\r\nHost: h\r\n{place}\r\n".encode())
    connection.sendall(data)
    return connection


def received(client: Client, location: str) -> int:
    """How far the server says the upload came."""
    while (reply := client.get(location)).status == 429:
        pass  # the request that was cut still holds the session
    assert reply.status == 204
    last = int(reply.headers["Range"].split("-")[1])
    return last + 1 if last else 0


# -- uploads


# Not 1: the protocol's `Range: 0-0` is one byte as well as none, so a client could not tell where to go on.
@pytest.mark.parametrize("cut", [2, 70_001, 2 * MIB, 2 * MIB + 1, len(DATA) - 1])
def test_an_upload_that_was_cut_is_resumed(client: Client, repository: str, cut: int) -> None:
    # F14: same server, connection broken
    location = client.begin(repository)
    send_part(client.address, location, DATA[:cut], len(DATA)).close()

    def resume() -> int:
        offset = received(client, location)
        assert offset <= cut
        rest = {"Content-Range": f"{offset}-{len(DATA) - 1}"}
        return client.request("PATCH", location, DATA[offset:], rest).status

    while (status := resume()) in {416, 429}:
        pass  # the request that was cut is still read: what it brought came in between
    assert status == 202
    done = client.request("PUT", f"{location}?digest={digest_of(DATA)}")
    assert done.status == 201
    assert client.get(done.headers["Location"]).body == DATA


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_an_upload_is_resumed_at_a_server_that_was_started_later(tmp_path: Path, death: signal.Signals) -> None:
    # F14, F22: killed, or asked to end while a request stands still
    with registry_process(str(tmp_path), "--drain", "0.2") as (address, process):
        client = Client(address)
        location = client.begin("a")
        assert client.request("PATCH", location, DATA[:MIB]).status == 202
        with send_part(address, location, DATA[MIB : 2 * MIB], 2 * MIB, start=MIB):
            process.send_signal(death)
            assert process.wait(30) == (0 if death is signal.SIGTERM else -signal.SIGKILL)
    with registry_process(str(tmp_path)) as (address, _):
        client = Client(address)
        offset = received(client, location)
        assert MIB <= offset <= 2 * MIB
        wrong = client.request("PATCH", location, b"x", {"Content-Range": f"{offset + 1}-{offset + 1}"})
        assert (wrong.status, wrong.headers["Range"]) == (416, f"0-{offset - 1}")
        rest = {"Content-Range": f"{offset}-{len(DATA) - 1}"}
        done = client.request("PUT", f"{location}?digest={digest_of(DATA)}", DATA[offset:], rest)
        assert done.status == 201
        assert client.get(done.headers["Location"]).body == DATA


class BusyMetadata:
    """A database in which the first look at an upload takes until the gate opens."""

    def __init__(self, inner: SqlMetadata) -> None:
        self._inner, self.gate, self.asked = inner, threading.Event(), threading.Event()

    def upload(self, upload: str) -> UploadRecord | None:
        if not self.asked.is_set():
            self.asked.set()
            self.gate.wait()
        return self._inner.upload(upload)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def server_has_heard_the_end(connection: socket.socket) -> bool:
    """Whether the other end of a closed connection of this machine knows of it: state CLOSE_WAIT, proc(5)."""
    port = f":{connection.getsockname()[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()]
    return any(row[2].endswith(port) and row[3] == "08" for row in rows)


def test_what_a_dead_client_streamed_does_not_come_in_after_it_resumed(tmp_path: Path) -> None:
    # F14: docker's style, without a Content-Range, at a server too busy to begin the request before the client is back
    metadata: Any = BusyMetadata(SqlMetadata(f"sqlite:///{tmp_path}/registry.db"))
    registry = Registry(RegistryConfig(), metadata, Content(open_directory(str(tmp_path))))
    with running(registry) as address, ExitStack() as stack:
        stack.callback(metadata.gate.set)
        client = Client(address)
        location = client.begin("a")
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = f"PATCH {location} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(DATA)}\r\n\r\n"
            # More than the server buffers: it stops to read, and so does not see the end that comes after.
            connection.sendall(head.encode() + DATA[: 2 * MIB + 70_000])
            metadata.asked.wait()
            connection.shutdown(socket.SHUT_WR)
            while not server_has_heard_the_end(connection):
                pass
            assert received(client, location) == 0
            metadata.gate.set()
            while (status := client.request("PATCH", location, DATA).status) == 429:
                pass  # the request of the dead client has the session for a moment
            assert status == 202
        done = client.request("PUT", f"{location}?digest={digest_of(DATA)}")
        assert done.status == 201


def test_running_requests_end_before_the_server_does(tmp_path: Path) -> None:
    # F22: the twin of the above; what is on its way gets its time
    with registry_process(str(tmp_path), "--drain", "30") as (address, process):
        client = Client(address)
        location = client.begin("a")
        with send_part(address, location, DATA[:MIB], len(DATA)) as connection:
            process.send_signal(signal.SIGTERM)
            with pytest.raises(OSError):  # no new connections
                while True:
                    client.get("/v2/")
            connection.sendall(DATA[MIB:])
            assert connection.recv(100).startswith(b"HTTP/1.1 202 ")
        assert process.wait(30) == 0
    with running_registry(str(tmp_path)) as address:
        assert Client(address).request("PUT", f"{location}?digest={digest_of(DATA)}").status == 201


def test_two_requests_cannot_write_one_upload(client: Client, repository: str) -> None:
    location = client.begin(repository)
    with send_part(client.address, location, b"abc", 6) as first:
        while client.get(location).status == 204:
            pass  # the first request has not begun yet; what is asked meanwhile must not change where it goes
        reply = client.request("PATCH", location, b"xyz")
        assert (reply.status, reply.codes, reply.headers["Retry-After"]) == (429, ["TOOMANYREQUESTS"], "1")
        first.sendall(b"def")
        assert first.recv(100).startswith(b"HTTP/1.1 202 ")
    assert client.request("PATCH", location, b"ghi").status == 202


def test_nothing_is_visible_before_it_is_whole(client: Client, repository: str) -> None:
    location, digest = client.begin(repository), digest_of(DATA)
    with send_part(client.address, location, DATA[:-1], len(DATA)):
        assert client.request("HEAD", f"/v2/{repository}/blobs/{digest}").status == 404
    assert received(client, location) < len(DATA)
    assert client.request("HEAD", f"/v2/{repository}/blobs/{digest}").status == 404


def test_cancelled_uploads_give_their_bytes_back(tmp_path: Path) -> None:
    # F15
    registry = open_registry(str(tmp_path))
    with running(registry) as address:
        client = Client(address)
        locations = [client.begin("a") for _ in range(100)]
        for location in locations:
            client.request("PATCH", location, b"x" * 10_000)
        stats = registry.uploads.stats()
        assert (stats.sessions, stats.bytes) == (100, 1_000_000)
        for location in locations:
            assert client.request("DELETE", location).status == 204
        stats = registry.uploads.stats()
        assert (stats.sessions, stats.bytes) == (0, 0)


def test_abandoned_uploads_expire_and_those_in_use_do_not(tmp_path: Path) -> None:
    # R08, F15, F18: the clocks that are passed in decide, and nothing else
    now = [1_000_000.0]
    config = RegistryConfig(upload_ttl=100)
    registry = open_registry(str(tmp_path), config, clock=lambda: now[0], steady=lambda: now[0])
    try:
        a = Repository("a")
        old, busy = registry.uploads.begin(a), registry.uploads.begin(a)
        with registry.uploads.open(a, old) as writer:
            writer.append([b"abandoned"])
        now[0] += 90
        young = registry.uploads.begin(a)
        now[0] += 20
        with registry.uploads.open(a, busy) as writer:
            assert registry.uploads.sweep() == 1
            writer.append([b"in use"])
        assert registry.uploads.sweep() == 0
        assert {record.id for record in registry.metadata.uploads()} == {busy, young}
        assert {path.name for path in (tmp_path / "uploads").iterdir()} == {f"{busy}.part"}
    finally:
        registry.close()


@pytest.mark.parametrize("days", [1, -1, 400])
def test_a_clock_that_jumps_expires_no_upload(tmp_path: Path, days: int) -> None:
    # F18: somebody sets the clock; for the client not a second has passed
    wall, steady, ttl = [1_000_000_000.0], [0.0], 24 * 3600.0
    config = RegistryConfig(upload_ttl=ttl)
    registry = open_registry(str(tmp_path), config, clock=lambda: wall[0], steady=lambda: steady[0])

    def passes(seconds: float) -> None:
        wall[0] += seconds
        steady[0] += seconds

    try:
        a = Repository("a")
        used, forgotten = registry.uploads.begin(a), registry.uploads.begin(a)
        passes(300)
        assert registry.uploads.sweep() == 0
        wall[0] += days * ttl
        for _ in range(2):
            assert registry.uploads.sweep() == 0
            passes(300)
        with registry.uploads.open(a, used) as writer:
            writer.append([b"still there"])
        passes(ttl - 300)  # what nobody touched since then is as old as it has to be, by any clock
        assert registry.uploads.sweep() == (1 if days > 0 else 0)
        if days < 0:  # it bears a time that is yet to come
            passes(-days * ttl)
            assert registry.uploads.sweep() == 2
        else:
            assert {record.id for record in registry.metadata.uploads()} == {used}
            assert forgotten != used
    finally:
        registry.close()


def test_the_sweep_clears_what_dead_writers_left(tmp_path: Path) -> None:
    # F15: one-request uploads have no session to expire
    with registry_process(str(tmp_path)) as (address, process):
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = f"POST /v2/a/blobs/uploads/?digest={digest_of(DATA)} HTTP/1.1\r\nHost: h\r\n"
            connection.sendall(f"{head}Content-Length: {len(DATA)}\r\n\r\n".encode() + DATA[:MIB])
            while not list((tmp_path / "uploads").iterdir()):
                pass
            process.kill()
            process.wait()
    assert list((tmp_path / "uploads").iterdir())
    registry = open_registry(str(tmp_path))
    registry.uploads.sweep()
    registry.close()
    assert not list((tmp_path / "uploads").iterdir())


# -- races


def test_readers_of_a_tag_see_the_old_or_the_new_manifest(client: Client, repository: str) -> None:
    # F17
    base = client.image(repository)
    documents = [json.dumps(base | {"annotations": {"n": str(number)}}).encode() for number in range(50)]
    assert client.push_manifest(repository, "v1", documents[0]).status == 201
    known = {digest_of(document): document for document in documents}
    done = threading.Event()

    def read() -> int:
        seen = 0
        while not done.is_set():
            reply = client.get(f"/v2/{repository}/manifests/v1")
            digest = reply.headers["Docker-Content-Digest"]
            assert (reply.status, digest_of(reply.body), reply.body) == (200, digest, known[digest])
            seen += 1
        return seen

    with ThreadPoolExecutor(14) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            writes = pool.map(lambda data: client.push_manifest(repository, "v1", data).status, documents)
            assert set(writes) == {201}
        finally:
            done.set()
        assert all(reader.result() for reader in readers)
    last = client.get(f"/v2/{repository}/manifests/v1").headers["Docker-Content-Digest"]
    assert last in known


def test_many_clients_push_the_same_blob_at_once(client: Client, repository: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = [f"{repository}/{number % 4}" for number in range(24)]
        digests = set(pool.map(lambda name: client.push_blob(name, DATA), names))
    assert digests == {digest_of(DATA)}
    assert client.get(f"/v2/{repository}/3/blobs/{digest_of(DATA)}").body == DATA


def test_several_processes_are_one_registry(tmp_path: Path) -> None:
    # each request may meet another process, with caches of its own
    with registry_process(str(tmp_path), "--workers", "3") as (address, process):
        client = Client(address)
        for number in range(10):
            digest = client.push_image("a", "v1", annotations={"n": str(number)})
            for _ in range(6):
                assert client.get("/v2/a/manifests/v1").headers["Docker-Content-Digest"] == digest
        assert client.request("DELETE", f"/v2/a/manifests/{digest}").status == 202
        for _ in range(6):
            assert client.get(f"/v2/a/manifests/{digest}").status == 404
        location = client.begin("a")
        for start in range(0, len(DATA), MIB):
            piece = DATA[start : start + MIB]
            place = {"Content-Range": f"{start}-{start + len(piece) - 1}"}
            assert client.request("PATCH", location, piece, place).status == 202
        assert client.request("PUT", f"{location}?digest={digest_of(DATA)}").status == 201
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with registry_process(str(tmp_path), "--workers", "2") as (address, process):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(before := children.read_text(encoding="ascii").split()) < 2:
            pass
        for child in before:
            os.kill(int(child), signal.SIGKILL)
        client = Client(address)
        client.push_image("a", "v1")
        assert set(children.read_text(encoding="ascii").split()).isdisjoint(before)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


class SlowUpload:
    """An upload whose writes wait until the gate opens."""

    def __init__(self, inner: Upload, gate: threading.Event, waiting: threading.Semaphore) -> None:
        self._inner, self._gate, self._waiting = inner, gate, waiting

    @property
    def offset(self) -> int:
        return self._inner.offset

    def existing(self) -> Iterable[bytes]:
        return self._inner.existing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._waiting.release()
        self._gate.wait()
        self._inner.write(data)

    def __getattr__(self, name: str):
        return getattr(self._inner, name)


class SlowDisk:
    """A byte driver whose writes stand still while reading works."""

    def __init__(self, inner: FilesystemDriver) -> None:
        self._inner = inner
        self.gate, self.waiting = threading.Event(), threading.Semaphore(0)

    def begin(self, name: str, *, resume: bool = True) -> SlowUpload:
        return SlowUpload(self._inner.begin(name, resume=resume), self.gate, self.waiting)

    def __getattr__(self, name: str):
        return getattr(self._inner, name)


def test_slow_writes_hold_nobody_else_up(tmp_path: Path) -> None:
    # F23: a disk that stands still under as many uploads as there are threads
    config = RegistryConfig(threads=4)
    with running_registry(str(tmp_path), config) as address:
        client = Client(address)
        client.push_image("a", "v1")
        digest = client.push_blob("a", DATA)
    disk = SlowDisk(open_directory(str(tmp_path)))
    metadata = SqlMetadata(f"sqlite:///{tmp_path}/registry.db")
    registry = Registry(config, metadata, Content(disk))  # type: ignore[arg-type]
    with running(registry) as address, ThreadPoolExecutor(4) as pool:
        client = Client(address)
        try:
            pushes = [pool.submit(client.push_blob, f"b{number}", DATA) for number in range(4)]
            for _ in range(4):
                disk.waiting.acquire()
            assert client.get("/v2/a/manifests/v1").status == 200
            assert client.get(f"/v2/a/blobs/{digest}").body == DATA
            assert client.get("/v2/_catalog").json()["repositories"] == ["a"]
            assert client.begin("c")
            assert not any(push.done() for push in pushes)
        finally:
            disk.gate.set()
        assert {push.result() for push in pushes} == {digest}


# -- damage


def damage(root: Path, digest: str) -> Path:
    """Flip one bit of a stored blob."""
    path = root / "blobs" / "sha256" / digest.removeprefix("sha256:")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def test_the_scrub_finds_rot_and_a_push_repairs_it(tmp_path: Path) -> None:
    # F20
    registry = open_registry(str(tmp_path))
    with running(registry) as address:
        client = Client(address)
        good, bad = client.push_blob("a", b"good"), client.push_blob("a", DATA)
        assert Scrubber(registry.content).run().damaged == []
        damage(tmp_path, bad)
        report = Scrubber(registry.content).run()
        assert (report.damaged, report.blobs) == ([Digest.parse(bad)], 2)
        assert client.get(f"/v2/a/blobs/{bad}").codes == ["BLOB_UNKNOWN"]
        assert client.request("HEAD", f"/v2/a/blobs/{bad}").status == 404
        assert [path.name for path in (tmp_path / "quarantine").iterdir()] == [bad.replace(":", "-")]
        assert client.get(f"/v2/a/blobs/{good}").body == b"good"
        client.push_blob("a", DATA)
        assert client.get(f"/v2/a/blobs/{bad}").body == DATA


def test_a_rotten_manifest_is_never_served(tmp_path: Path) -> None:
    # F20
    with running_registry(str(tmp_path)) as address:
        digest = Client(address).push_image("a", "v1")
        data = Client(address).get("/v2/a/manifests/v1").body
    damage(tmp_path, digest)
    with running_registry(str(tmp_path)) as address:
        client = Client(address)
        for reference in ("v1", digest):
            assert client.get(f"/v2/a/manifests/{reference}").status == 404
        assert client.push_manifest("a", "v1", data).status == 201
        assert client.get("/v2/a/manifests/v1").body == data


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreIOFailed, match=f"cannot write {tmp_path}/file/root: "):
        open_registry(str(tmp_path / "file" / "root"))


def test_more_connections_than_descriptors(tmp_path: Path) -> None:
    # F7: those that cannot be served are dropped; the server lives, and serves when there is room again
    with registry_process(str(tmp_path)) as (address, process):
        client = Client(address)
        digest = client.push_image("a", "v1")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (40, 40))
        host, port = address.split(":")
        with ExitStack() as stack:
            for _ in range(80):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            with suppress(OSError):
                client.get("/v2/a/manifests/v1")
        reply = None
        while reply is None or reply.status == 503:
            with suppress(OSError):  # the server has not noticed yet that they are gone
                reply = client.get("/v2/a/manifests/v1")
        assert reply.headers["Docker-Content-Digest"] == digest
        assert client.push_blob("a", DATA) == digest_of(DATA)
        assert process.poll() is None


@pytest.mark.parametrize("size", [0, 100])
def test_a_blob_of_the_wrong_length_is_never_served(tmp_path: Path, size: int) -> None:
    # F20
    with running_registry(str(tmp_path)) as address:
        client = Client(address)
        digest = client.push_blob("a", DATA)
        os.truncate(tmp_path / "blobs" / "sha256" / digest.removeprefix("sha256:"), size)
        assert client.get(f"/v2/a/blobs/{digest}").status == 404
        assert client.request("HEAD", f"/v2/a/blobs/{digest}").status == 404
        client.push_blob("a", DATA)
        assert client.get(f"/v2/a/blobs/{digest}").body == DATA


def test_existence_is_answered_from_the_store(tmp_path: Path) -> None:
    # F11: the database says yes, the bytes are gone: the client must push them again
    with running_registry(str(tmp_path)) as address:
        client = Client(address)
        document = client.image("a", layer=DATA)
        digest = digest_of(DATA)
        (tmp_path / "blobs" / "sha256" / digest.removeprefix("sha256:")).unlink()
        assert client.request("HEAD", f"/v2/a/blobs/{digest}").status == 404
        assert client.push_manifest("a", "v1", document).codes == ["MANIFEST_BLOB_UNKNOWN"]
        assert client.request("POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a").status == 202
        client.push_blob("a", DATA)
        assert client.push_manifest("a", "v1", document).status == 201
        assert hashlib.sha256(client.get(f"/v2/a/blobs/{digest}").body).hexdigest() == digest.removeprefix("sha256:")
