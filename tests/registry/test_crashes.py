"""The server dies, the power goes, or the disk is full at every step of a push: what is served stays whole (F1, F2, F6)."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lamina.registry.config import RegistryConfig
from lamina.registry.content import Content, open_directory
from lamina.registry.errors import BlobUnknown, ManifestUnknown, NameUnknown
from lamina.registry.metadata.failures import MetadataUnavailable, raise_typed
from lamina.registry.metadata.sql import SqlMetadata
from lamina.registry.names import Repository, Tag
from lamina.registry.service import Registry, open_registry
from lamina.spec import mediatype
from lamina.spec.digest import Digest
from lamina.spec.manifest import Manifest, parse_manifest
from lamina.store.backends.filesystem import FilesystemDriver
from lamina.store.files import StoreFull, StoreIOFailed
from lamina.testing.faults import Crash, Fault, FaultyFiles, Loss
from lamina.testing.registry import running, running_registry
from lamina.testing.registry_client import Client, digest_of, manifest_of

A, B, V1 = Repository("team/app"), Repository("team/copy"), Tag("v1")
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
LAYER = random.Random(11).randbytes(50_000)
MANIFESTS = [json.dumps(manifest_of(CONFIG, LAYER) | {"annotations": {"n": n}}).encode() for n in "12"]
#: One step in so many is tried by default, each kind of fault beginning at another one; `soak` tries them all.
_STRIDE = 11


class MortalMetadata:
    """The database, whose every change is a step at which the process may die, before or after it."""

    def __init__(self, inner: SqlMetadata, files: FaultyFiles) -> None:
        self._inner, self._files = inner, files

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not name.startswith(("add_", "put_", "remove_", "touch_", "finish_")):
            return method

        def change(*arguments: Any) -> Any:
            try:
                self._files.step("db.commit")
            except sqlite3.OperationalError as error:
                raise_typed("registry.db", sa.exc.OperationalError(None, None, error))
            result = method(*arguments)
            self._files.step("db.committed")
            return result

        return change


def mortal_registry(root: Path, files: FaultyFiles) -> Registry:
    open_directory(str(root))
    driver = FilesystemDriver(f"{root}/blobs", f"{root}/uploads", files)
    metadata: Any = MortalMetadata(SqlMetadata(f"sqlite:///{root}/registry.db"), files)
    return Registry(RegistryConfig(), metadata, Content(driver, f"{root}/quarantine"))


def life(registry: Registry) -> None:
    """A layer in two pieces, a config in one, a tag that moves; a copy with mounted blobs, which is deleted again."""
    layer, config, upload = Digest.of(LAYER), Digest.of(CONFIG), registry.uploads.begin(A)
    with registry.uploads.open(A, upload) as writer:
        writer.append([LAYER[:20_000]])
    with registry.uploads.open(A, upload) as writer:
        writer.append([LAYER[20_000:]])
        writer.finish(layer)
    with registry.uploads.single(A, "sha256") as writer:
        writer.append([CONFIG])
        writer.finish(config)
    for manifest in MANIFESTS:
        registry.manifests.put(A, V1, mediatype.OCI_MANIFEST, manifest)
    for blob in (layer, config):
        assert registry.blobs.mount(B, blob, A, lambda _: True)
    registry.manifests.put(B, V1, mediatype.OCI_MANIFEST, MANIFESTS[0])
    registry.manifests.delete(B, V1)
    registry.manifests.delete(B, Digest.of(MANIFESTS[0]))
    registry.blobs.delete(B, layer)
    registry.uploads.cancel(A, registry.uploads.begin(A))


def check(registry: Registry, root: Path) -> None:
    """Whatever is there is whole, and what a manifest needs is there with it."""
    for path in (root / "blobs").rglob("*"):
        assert path.is_dir() or hashlib.new(path.parent.name, path.read_bytes()).hexdigest() == path.name
    for repository in (A, B):
        for data in (LAYER, CONFIG):
            with suppress(BlobUnknown):
                assert read(registry, repository, Digest.of(data)) == data
        references: list[Tag | Digest] = [V1, *map(Digest.of, MANIFESTS)]
        for reference in references:
            try:
                stored = registry.manifests.get(repository, reference)
            except (NameUnknown, ManifestUnknown):
                continue
            assert stored.data in MANIFESTS
            document = parse_manifest(stored.data, mediatype.OCI_MANIFEST)
            assert isinstance(document, Manifest)
            assert [read(registry, repository, blob.digest) for blob in document.blobs()] == [CONFIG, LAYER]


def read(registry: Registry, repository: Repository, digest: Digest) -> bytes:
    file, _ = registry.blobs.open(repository, digest)
    with file:
        return file.read()


def resume(registry: Registry) -> None:
    """Go on with the sessions that are left: they hold a beginning of the layer, and so it can be completed."""
    for record in registry.metadata.uploads():
        with registry.uploads.open(A, record.id) as writer:
            writer.append([LAYER[writer.offset :]])
            writer.finish(Digest.of(LAYER))
        assert read(registry, A, Digest.of(LAYER)) == LAYER


def check_after(registry: Registry, root: Path) -> None:
    """What the next server makes of it: nothing torn, sessions that can be resumed, a push that works, no leftovers."""
    check(registry, root)
    resume(registry)
    life(registry)
    check(registry, root)
    assert registry.manifests.get(A, V1).data == MANIFESTS[-1]
    registry.uploads.sweep()
    assert list((root / "uploads").iterdir()) == []
    assert registry.uploads.stats().sessions == 0


@cache
def steps() -> int:
    """How many there are in a life."""
    with tempfile.TemporaryDirectory() as folder:
        files = FaultyFiles()
        registry = mortal_registry(Path(folder), files)
        life(registry)
        registry.close()
        return len(files.steps)


def faults(root: Path, fault: Fault, start: int, stride: int) -> Iterator[tuple[Path, FaultyFiles]]:
    assert steps() > 40
    for at in range(start % stride, steps(), stride):
        (stash := root / f"stash{at}").mkdir()
        (folder := root / str(at)).mkdir()
        yield folder, FaultyFiles(at=at, fault=fault, stash=str(stash))


some_or_all = pytest.mark.parametrize("stride", [_STRIDE, pytest.param(1, marks=pytest.mark.soak)])


@some_or_all
@pytest.mark.parametrize(("start", "loss"), list(zip((0, 2, 4), Loss, strict=True)))
def test_a_server_that_dies_at_any_step(tmp_path: Path, start: int, loss: Loss, stride: int) -> None:
    # F1, F2, F13
    for root, files in faults(tmp_path, Fault.CRASH, start, stride):
        registry = mortal_registry(root, files)
        with pytest.raises(Crash):
            life(registry)
        registry.close()
        files.power_cut(loss)
        registry = open_registry(str(root))
        check_after(registry, root)
        registry.close()


@some_or_all
@pytest.mark.parametrize(("start", "fault"), [(6, Fault.ENOSPC), (8, Fault.EIO)])
def test_a_disk_that_refuses_at_any_step(tmp_path: Path, start: int, fault: Fault, stride: int) -> None:
    # F6, F7: an error with a kind; the same server goes on reading; the same requests work once there is room
    refusals = (StoreFull,) if fault is Fault.ENOSPC else (StoreIOFailed, MetadataUnavailable)
    for root, files in faults(tmp_path, fault, start, stride):
        registry = mortal_registry(root, files)
        with suppress(*refusals):
            life(registry)
        check(registry, root)
        registry.close()
        registry = open_registry(str(root))
        check_after(registry, root)
        registry.close()


@pytest.mark.parametrize(
    ("fault", "status"), [(Fault.ENOSPC, 507), (Fault.EIO, 503)], ids=["no space left", "input/output error"]
)
def test_a_disk_that_refuses_is_the_servers_fault_and_said_so(tmp_path: Path, fault: Fault, status: int) -> None:
    # F6, F7, threat 60: a 5xx with a body of the protocol, which names no path; the server lives on
    for at in (1, 2, 5):  # a write, the sync or rename, the commit
        (root := tmp_path / str(at)).mkdir()
        with running(mortal_registry(root, FaultyFiles(at=at, fault=fault))) as address:
            client = Client(address)
            reply = client.request("POST", f"/v2/a/blobs/uploads/?digest={digest_of(LAYER)}", LAYER)
            if reply.status != 201:
                assert (reply.status, reply.codes) == (status, ["UNAVAILABLE"])
                assert str(root).encode() not in reply.body
                assert client.get(f"/v2/a/blobs/{digest_of(LAYER)}").status == 404
            assert client.get("/v2/").status == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Six mebibytes, and no more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"mount: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.root
def test_a_full_disk_is_said_and_served_from(small_disk: Path) -> None:
    # F6: pushes are refused in the protocol's words, pulls go on, also at the next server, and there is a way out
    layer = random.Random(3).randbytes(2 << 20)
    with running_registry(str(small_disk / "root")) as address:
        client = Client(address)
        digest = client.push_image("a", "v1")
        kept = client.push_blob("a", layer)
        location = client.begin("a")
        assert client.request("PATCH", location, layer[1:]).status == 202
        fill(small_disk / "ballast")
        refused = [
            client.request("PATCH", location, layer),
            client.request("POST", f"/v2/a/blobs/uploads/?digest={digest_of(layer[2:])}", layer[2:]),
            until_refused(lambda: client.request("POST", "/v2/b/blobs/uploads/")),
            client.push_manifest("a", "v1", manifest_of(CONFIG, b"layer") | {"annotations": {"x": "y" * 9000}}),
        ]
        assert {(reply.status, *reply.codes) for reply in refused} == {(507, "UNAVAILABLE")}
        assert {reply.json()["errors"][0]["message"] for reply in refused} == {"no space left on the registry"}
        assert client.get("/v2/a/manifests/v1").headers["Docker-Content-Digest"] == digest
        assert client.get(f"/v2/a/blobs/{kept}").body == layer
        assert client.request("DELETE", location).status == 204
        client.push_blob("a", b"there is room again")


@pytest.mark.root
def test_a_server_starts_on_a_full_disk(small_disk: Path) -> None:
    # F6: also once more, though SQLite removes at each end what it needs at each start
    root = str(small_disk / "root")
    with running_registry(root) as address:
        digest = Client(address).push_image("a", "v1")
    for _ in range(3):
        fill(small_disk / "ballast")
        with running_registry(root) as address:
            assert Client(address).get("/v2/a/manifests/v1").headers["Docker-Content-Digest"] == digest


def until_refused(ask: Callable[[], Any]) -> Any:
    """Ask until the answer is no success."""
    for _ in range(10_000):
        if (reply := ask()).status >= 400:
            return reply
    raise AssertionError("there is always room")


def fill(ballast: Path) -> None:
    """Leave no room on a disk."""
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
