"""Many processes on one store: each layer is fetched once, whoever dies (F8); files are private (threat 59)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.spec.digest import Digest
from lamina.store.store import Store
from lamina.testing.store_images import Served, pull, tar

# Fetches are counted in a file, to which one short append is atomic.
PULL = """
import os, sys, time
from lamina.store.store import Store
from lamina.testing.store_images import Served, pull
root, layers, log, die = sys.argv[1], sys.argv[2:-2], sys.argv[-2], int(sys.argv[-1])
class Counted(Served):
    def count(self, size):
        super().count(size)
        os.write(out, f"{os.getpid()} {size}\\n".encode())
        if die and self.sent == size:
            os.write(1, b"started\\n")
        if die and self.sent > die:
            os.kill(os.getpid(), 9)
out = os.open(log, os.O_WRONLY | os.O_APPEND)
with Store.open(root) as store:
    made = pull(store, [Counted(open(layer, "rb").read()) for layer in layers], "app:1")
    assert made.size > 0
"""


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    paths = []
    for number in range(2):
        path = tmp_path / f"layer{number}"
        path.write_bytes(tar((f"file{number}", os.urandom(1 << 20))))
        paths.append(str(path))
    return paths


def start(root: str, layers: list[str], log: Path, die: int = 0) -> subprocess.Popen[bytes]:
    out = subprocess.PIPE if die else None
    return subprocess.Popen([sys.executable, "-c", PULL, root, *layers, str(log), str(die)], stdout=out)


def fetched(log: Path) -> int:
    return sum(int(line.split()[1]) for line in log.read_text().splitlines())


def blob_bytes(layers: list[str]) -> int:
    return sum(len(Served(Path(layer).read_bytes()).blob) for layer in layers)


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_twenty_processes_fetch_once(tmp_path: Path, layers: list[str], driver: str) -> None:
    if driver == "overlay" and os.geteuid() != 0:
        pytest.skip("mounting an overlay needs root")
    root, log = str(tmp_path / "data"), tmp_path / "log"
    log.touch()
    Store.open(root, driver=driver).close()
    processes = [start(root, layers, log) for _ in range(20)]
    assert [process.wait(120) for process in processes] == [0] * 20
    assert fetched(log) == blob_bytes(layers)
    with Store.open(root) as store:
        assert store.collector.collect(partials_kept=None).left == ()
        assert store.fsck.run().findings == ()
        assert len(store.snapshots.all()) == 2
        assert os.listdir(store.paths.locks) == []


def test_the_leader_is_killed_and_a_follower_continues(tmp_path: Path, layers: list[str]) -> None:
    # containerd#1545: no "locked: unavailable"; A10: and not from the start
    root, log = str(tmp_path / "data"), tmp_path / "log"
    log.touch()
    Store.open(root, driver="vfs").close()
    with start(root, layers, log, die=500_000) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"started\n"
        followers = [start(root, layers, log) for _ in range(4)]
        assert leader.wait(120) == -9
    assert [process.wait(120) for process in followers] == [0] * 4
    # Each layer of the leader may lose the piece that was handed out and not yet written.
    assert blob_bytes(layers) <= fetched(log) <= blob_bytes(layers) + 2 * (1 << 16)
    with Store.open(root) as store:
        store.collector.collect(partials_kept=None)
        assert store.fsck.run().findings == ()


def test_one_process_writes_while_others_list(tmp_path: Path, layers: list[str]) -> None:
    # F23: a slow fetch holds nothing that others need
    with Store.open(str(tmp_path / "data"), driver="vfs") as store:
        pull(store, [Served(tar(("a", b"1")))], "first")
        with store.blobs.ingest(Digest.of(b"slow")) as writer:
            assert writer is not None
            writer.write(b"sl")
            with Store.open(store.root) as other:
                assert len(other.images.all()) == 1
                pull(other, [Served(tar(("b", b"2")))], "second")
                other.removal.remove("first")
                assert other.collector.collect().left == ()
            writer.write(b"ow")
            writer.commit()
        assert store.blobs.read(Digest.of(b"slow")) == b"slow"


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    # threat 59
    before = os.umask(umask)
    try:
        with Store.open(str(tmp_path / "data"), driver="vfs") as store:
            pull(store, [Served(tar(("a", b"1")))], "app")
            with store.blobs.ingest(Digest.of(b"later")) as writer:
                assert writer is not None
                writer.write(b"la")
            paths = store.paths
    finally:
        os.umask(before)
    seen = {}
    for base, directories, files in os.walk(paths.root):
        if base.startswith(paths.snapshots + "/"):
            directories[:] = [name for name in directories if name != "fs"]
        for name in files:
            seen[os.path.join(base, name)] = stat.S_IMODE(os.lstat(os.path.join(base, name)).st_mode)
        seen[base] = stat.S_IMODE(os.lstat(base).st_mode)
    for path, mode in seen.items():
        if os.path.isdir(path):
            traversable = path == paths.root or path.startswith(paths.snapshots)
            assert mode == (0o711 if traversable else 0o700), path
        else:
            assert mode == 0o600, path
    assert len(seen) > 10


@pytest.mark.root
def test_another_user_cannot_read_the_store(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    for directory in (tmp_path, *tmp_path.parents):
        if directory != Path("/") and directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o001)
    with Store.open(str(tmp_path / "data"), driver="vfs") as store:
        pull(store, [Served(tar(("secret", b"1")))], "app")
        script = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.listdir(sys.argv[1])"
        for path in (store.root, store.paths.blobs, store.paths.snapshots):
            run = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False)
            assert b"PermissionError" in run.stderr, path
        read = script.replace("os.listdir(sys.argv[1])", "open(sys.argv[1])")
        run = subprocess.run([sys.executable, "-c", read, store.paths.database], capture_output=True, check=False)
        assert b"PermissionError" in run.stderr
