"""Large layers are unpacked by processes of their own: same results, same errors, and a killed one leaves nothing."""

from __future__ import annotations

import gzip
import io
import os
import random
import select
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from lamina.errors import Cancelled, Integrity, Internal
from lamina.layer.applied import ApplyDenied, ApplyFailed, NeedsParents, WhiteoutMode
from lamina.layer.compression import BadStream, Compression
from lamina.layer.entry import BadArchive
from lamina.layer.limits import LayerLimit, Limits
from lamina.layer.paths import UnsafeEntry
from lamina.layer.worker import error_from_json, error_to_json
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.store.apart import ApplyWorker, WorkerDied, WorkerStuck
from lamina.store.pipeline import DiffIdMismatch, LayerSource
from lamina.store.store import Store
from lamina.store.unpack import Unpacker
from lamina.store.writing import DigestMismatch


def archive(*members: tuple[str, bytes | str]) -> bytes:
    """A tar of files (bytes) and hard links (the target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o640, 1_000_000_000
            if isinstance(content, str):
                info.type, info.linkname = tarfile.LNKTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def source(tar: bytes, *, blob: bytes | None = None, diff_id: Digest | None = None) -> LayerSource:
    packed = gzip.compress(tar, mtime=0)
    served = blob if blob is not None else packed
    descriptor = Descriptor(mediatype.OCI_LAYER_GZIP, Digest.of(packed), len(packed))
    return LayerSource(diff_id or Digest.of(tar), descriptor, lambda offset: io.BytesIO(served[offset:]))


@pytest.fixture(params=["overlay", "vfs"])
def apart(request, tmp_path):
    """A store of each driver and an unpacker that gives even the smallest layer its own process."""
    from lamina.store.store import UnusableDriver

    try:
        store = Store.open(str(tmp_path / "store"), driver=request.param)
        _ = store.snapshots
    except UnusableDriver as error:
        pytest.skip(str(error))
    with store:
        yield store, Unpacker(store.db, store.blobs, store.snapshots, store.layers, store.locks, apart=0)


def files_of(store: Store, chain: Digest) -> list[str]:
    tree = store.snapshots.driver.tree(store.paths.snapshot(store.snapshots.stat(str(chain)).directory))
    return sorted(str(path.relative_to(tree)) for path in Path(tree).rglob("*"))


def nothing_visible(store: Store) -> bool:
    with store.db.read() as connection:
        layers = connection.execute("SELECT count(*) FROM layers").fetchone()[0]
        snapshots = connection.execute("SELECT count(*) FROM snapshots WHERE kind = 'committed'").fetchone()[0]
    return (layers, snapshots) == (0, 0)


def test_layers_unpacked_apart_are_the_same_layers(apart):
    store, unpacker = apart
    below = source(archive(("etc/hostname", b"one"), ("etc/motd", b"hello")))
    above = source(archive(("etc/.wh.motd", b""), ("srv/data", bytes(300_000))))
    with store.lease("test") as lease:
        chain = unpacker.ensure([below, above], lease=lease)
        store.snapshots.view("look", str(chain[-1]), lease=lease)
        with store.snapshots.mounted("look") as tree:
            found = sorted(str(path.relative_to(tree)) for path in Path(tree).rglob("*"))
            assert found == ["etc", "etc/hostname", "srv", "srv/data"]
            status = os.stat(f"{tree}/srv/data")
            assert (status.st_mode & 0o7777, status.st_mtime, status.st_size) == (0o640, 1_000_000_000, 300_000)
            assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def test_a_hard_link_to_a_lower_layer_is_applied_on_the_merged_tree(apart):
    # the process answers NeedsParents, which must arrive as that
    store, unpacker = apart
    below, above = source(archive(("a", b"one"))), source(archive(("b", "a")))
    with store.lease("test") as lease:
        chain = unpacker.ensure([below, above], lease=lease)
        store.snapshots.view("look", str(chain[-1]), lease=lease)
        with store.snapshots.mounted("look") as tree:
            assert Path(tree, "b").read_bytes() == b"one"
            assert os.stat(f"{tree}/a").st_nlink == 2


TAR = archive(("file", random.Random(1).randbytes(200_000)))


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        (lambda: source(archive(("x", b"1")), diff_id=Digest.of(b"other")), DiffIdMismatch),
        (lambda: source(TAR[: len(TAR) // 2]), BadArchive),
        (lambda: source(TAR, blob=gzip.compress(TAR, mtime=0)[:-40] + bytes(40)), DigestMismatch),
    ],
    ids=["diff-id", "truncated tar", "wrong bytes"],
)
def test_errors_arrive_as_what_they_are_and_nothing_is_visible(apart, layer, error):  # threats 2, 9, 10
    store, unpacker = apart
    with store.lease("test") as lease:
        with pytest.raises(error):
            unpacker.ensure([layer()], lease=lease)
        assert nothing_visible(store)


def test_limits_hold_in_the_process(apart):  # threat 9
    store, _ = apart
    limits = Limits(max_bytes=100_000)
    unpacker = Unpacker(store.db, store.blobs, store.snapshots, store.layers, store.locks, limits=limits, apart=0)
    with store.lease("test") as lease, pytest.raises(LayerLimit) as caught:
        unpacker.ensure([source(TAR)], lease=lease)
    assert (caught.value.what, caught.value.limit) == ("max_bytes", 100_000)
    assert "max_bytes" in (caught.value.hint or "")


def test_cancelling_ends_the_process(apart):
    store, unpacker = apart
    cancel = threading.Event()
    given = source(TAR)

    class Endless:
        """Gives up half of the blob and is then told that nobody wants the rest."""

        def __init__(self) -> None:
            self.left = [gzip.compress(TAR, mtime=0)[:50_000], b"more"]

        def read(self, _size: int = -1, /) -> bytes:
            if len(self.left) == 1:
                cancel.set()
            return self.left.pop(0)

        def close(self) -> None:
            pass

    endless = LayerSource(given.diff_id, given.blob, lambda _offset: Endless())
    with store.lease("test") as lease, pytest.raises(Cancelled):
        unpacker.ensure([endless], lease=lease, cancelled=cancel)
    assert nothing_visible(store)
    with store.lease("test") as lease:
        assert unpacker.ensure([given], lease=lease)  # goes on where it stopped


def test_a_killed_process_is_a_typed_error_and_another_try_works(apart, monkeypatch):
    store, unpacker = apart
    given = source(TAR)
    start = ApplyWorker.__init__

    def doomed(self, *args, **options):
        start(self, *args, **options)
        os.kill(self.pid, signal.SIGKILL)

    with monkeypatch.context() as patch, store.lease("test") as lease:
        patch.setattr(ApplyWorker, "__init__", doomed)
        with pytest.raises(WorkerDied) as caught:
            unpacker.ensure([given], lease=lease)
    assert caught.value.status == -signal.SIGKILL
    assert nothing_visible(store)
    with store.lease("test") as lease:
        (chain,) = unpacker.ensure([given], lease=lease)
        assert files_of(store, chain) == ["file"]


def test_leaving_early_kills_the_process(tmp_path):
    with ApplyWorker(str(tmp_path), WhiteoutMode.REMOVE, Limits(), lambda: None, userxattr=False) as worker:
        pid = worker.pid
        worker.write(gzip.compress(TAR)[:1000])
    assert not os.path.exists(f"/proc/{pid}")


def test_a_stopped_process_does_not_hold_up_the_end(tmp_path):
    """A process that hangs is given up as soon as the caller gives up, though the pipe is full."""

    def given_up() -> None:
        raise Cancelled("no longer wanted")

    with ApplyWorker(str(tmp_path), WhiteoutMode.REMOVE, Limits(), given_up, userxattr=False) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(Cancelled):
            for _ in range(64):
                worker.write(bytes(1 << 20))


@pytest.mark.parametrize(
    "error",
    [
        NeedsParents("usr/b", "usr/a"),
        ApplyFailed("usr/\udcff", OSError(28, "No space left on device")),
        ApplyDenied("dev/null", OSError(1, "Operation not permitted")),
        BadArchive("unexpected end of archive", "a", 512),
        BadStream(Compression.GZIP, 77, "unexpected end"),
        UnsafeEntry("../a", "it leaves the root"),
        LayerLimit("max_bytes", 5, "too much", "a"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_the_way_between_processes(error):
    import json

    again = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(again) is type(error)
    assert (again.message, again.hint, vars(again)) == (error.message, error.hint, vars(error))


def test_an_error_that_no_layer_raises_is_a_bug():
    assert type(error_from_json(error_to_json(Integrity("?")))) is Internal


STARTED = """
import os, sys
from lamina.layer.applied import WhiteoutMode
from lamina.layer.limits import Limits
from lamina.store.apart import ApplyWorker
with ApplyWorker(sys.argv[1], WhiteoutMode.REMOVE, Limits(), lambda: None, userxattr=False) as worker:
    print(worker.pid, flush=True)
    blob = open(sys.argv[2], "rb").read()[: int(sys.argv[3])]
    worker.write(blob)
    if len(blob) < int(sys.argv[4]):
        os.read(0, 1)  # the rest never comes
    worker.end()
    worker.result()
"""


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_no_process_outlives_the_one_that_started_it(tmp_path, share):  # F3, F22
    """However far it has come: its parent is killed, and nothing goes on to write."""
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(archive(*((f"d{n % 100}/{n}", b"x" * 2000) for n in range(3000))), 1, mtime=0))
    size = blob.stat().st_size
    tree = tmp_path / "tree"
    tree.mkdir()
    command = [sys.executable, "-c", STARTED, str(tree), str(blob), str(int(size * share)), str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        try:
            worker = os.pidfd_open(pid)
        except ProcessLookupError:
            worker = -1  # it was quick
        os.kill(parent.pid, signal.SIGKILL)
    if worker >= 0:
        try:
            assert select.select([worker], [], [], 30)[0], "the worker lives on"
        finally:
            os.close(worker)
    assert not os.path.exists(f"/proc/{pid}/fd/0")


def test_a_process_that_does_nothing_is_given_up(tmp_path):  # F24
    where = (str(tmp_path), WhiteoutMode.REMOVE, Limits(), lambda: None)
    with ApplyWorker(*where, userxattr=False, patience=0.3) as worker:
        pid = worker.pid
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkerStuck, match=r"has done nothing for 0\.3 seconds"):
            for _ in range(64):
                worker.write(bytes(1 << 20))
        with pytest.raises(WorkerStuck):
            worker.result()
    assert not os.path.exists(f"/proc/{pid}")


def test_a_process_that_waits_for_a_slow_source_is_not_given_up(tmp_path):
    """The legitimate twin: what the parent waits for elsewhere does not count against the process."""
    blob = gzip.compress(TAR, mtime=0)
    where = (str(tmp_path), WhiteoutMode.REMOVE, Limits(), lambda: None)
    with ApplyWorker(*where, userxattr=False, patience=0.0) as worker:
        for byte in range(0, len(blob), 20_000):
            worker.write(blob[byte : byte + 20_000])
        worker.end()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        assert worker.result()[0].files == 1
