"""The process dies, the power goes, the disk fills or fails, at every step of what the store does (F1-F3, F6, F7, F13).

After each of them a new process finds a store in which nothing is damaged, the collector leaves nothing behind, and
doing it again works.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lamina.errors import LaminaError
from lamina.linux.mounts import Tmpfs, Unmount
from lamina.spec.reference import Reference
from lamina.store.files import StoreFull
from lamina.store.records import ImageNotFound
from lamina.store.store import Store
from lamina.testing.crashes import Operation, Trial, some
from lamina.testing.faults import Fault, Loss
from lamina.testing.store_images import Served, config_of, pull, tar

LAYERS = [tar(("etc", 0o755), ("etc/a", b"1" * 9000)), tar(("etc/b", b"2" * 300_000))]


@pytest.fixture
def base() -> Iterator[str]:
    """A place where syncing costs nothing, if there is one: a thousand stores are made here."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="lamina-crash-", dir=memory if os.path.isdir(memory) else None) as path:
        yield path


def served() -> list[Served]:
    return [Served(layer) for layer in LAYERS]


def prepare_nothing(_store: Store) -> None:
    """The store is empty."""


def prepare_images(store: Store) -> None:
    pull(store, served(), "app:1")
    pull(store, served()[:1], "app:2")


def do_pull(store: Store) -> None:
    pull(store, served(), "app:1", jobs=1)


def do_tag(store: Store) -> None:
    store.refs.tag(Reference.parse("app:1"), store.lookup.find("app:2").image.id)


def do_remove(store: Store) -> None:
    with suppress(ImageNotFound):
        store.removal.remove("app:1")
    store.collector.collect(partials_kept=None)


def do_build(store: Store) -> None:
    """A build step with its commit, as the builder does it."""
    image = store.lookup.find("app:2").image
    made = Served(tar(("made", b"3" * 5000)))
    layers = [served()[0], made]
    with store.lease("build") as lease:
        work, result = "step", "step-result"
        if store.snapshots.find(result, lease=lease) is None:
            if store.snapshots.find(work, lease=lease) is not None:
                store.snapshots.remove(work)
            store.snapshots.prepare(work, store.images.snapshot(image.id), lease=lease)
            with store.snapshots.mounted(work) as path:
                Path(path, "made").write_bytes(b"3" * 5000)
            store.snapshots.commit(work, result, sync=False, lease=lease)
        store.snapshots.sync()
        store.layers.register([layer.diff_id for layer in layers], result)
        store.images.put(config_of(layers), parent=image.id, tags=[Reference.parse("app:3")], lease=lease)


OPERATIONS: dict[str, tuple[Operation, Operation, set[str]]] = {
    "pull": (prepare_nothing, do_pull, {"app:1"}),
    "tag": (prepare_images, do_tag, {"app:1", "app:2"}),
    "remove": (prepare_images, do_remove, {"app:2"}),
    "build": (prepare_images, do_build, {"app:1", "app:2", "app:3"}),
}


@pytest.fixture(params=["vfs", pytest.param("overlay", marks=pytest.mark.root)])
def trial(request: pytest.FixtureRequest, name: str) -> Trial:
    prepare, operation, tags = OPERATIONS[name]
    return Trial(name, prepare, operation, frozenset(tags), request.param, ("etc/a", b"1" * 9000))


@pytest.fixture(params=["some", pytest.param("every", marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def choose(request: pytest.FixtureRequest, trial: Trial) -> Callable[[list[str], int], list[int]]:
    """Which steps to try. Others in each test, so that together they come everywhere."""
    if request.param == "every":
        return lambda steps, _turn: list(range(len(steps)))
    return lambda steps, turn: some(steps, turn=turn + 3 * (trial.driver == "overlay"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_it_can_die_at_every_step(base: str, trial: Trial, choose: Callable[[list[str], int], list[int]]) -> None:
    # F1, F2, F3, F13: old or new, never a mix
    steps = trial.steps(f"{base}/count")
    assert len(steps) > 1
    for turn, loss in enumerate(Loss):
        for at in choose(steps, turn):
            root = trial.die(f"{base}/{at}", at, loss)
            trial.recovers(root, f"{trial.name}: died at step {at} ({steps[at]}), losing {loss.value}")
            trial.clear(f"{base}/{at}")


@pytest.mark.parametrize("name", OPERATIONS)
def test_it_can_be_killed_at_every_step(base: str, trial: Trial, choose: Callable[[list[str], int], list[int]]) -> None:
    # F3, F22: as it really is, with its mounts left behind
    steps = trial.steps(f"{base}/count")
    for at in choose(steps, 3):
        root = trial.killed(f"{base}/{at}", at)
        trial.recovers(root, f"{trial.name}: killed at step {at} ({steps[at]})")
        trial.clear(f"{base}/{at}")


@pytest.mark.parametrize("fault", [Fault.ENOSPC, Fault.EIO], ids=lambda fault: fault.value)
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_disk_can_refuse_at_every_step(
    base: str, trial: Trial, fault: Fault, choose: Callable[[list[str], int], list[int]]
) -> None:
    # F6, F7: a typed error, nothing damaged, the next attempt works
    steps = trial.steps(f"{base}/count")
    failed = 0
    for at in choose(steps, 4 + (fault is Fault.EIO)):
        root, outcome = trial.refused(f"{base}/{at}", at, fault)
        failed += outcome is not None
        trial.recovers(root, f"{trial.name}: {fault.value} from step {at} ({steps[at]})")
        trial.clear(f"{base}/{at}")
    assert failed > 0 or len(choose(steps, 0)) < len(steps)


KILLED = """
import os, sys
from lamina.store.store import Store
from lamina.testing.faults import FaultyFiles
from lamina.testing.store_images import Served, pull
root, at, layer = sys.argv[1], int(sys.argv[2]), sys.argv[3]
class Kill(FaultyFiles):
    def _reach(self, name):
        if len(self.steps) == at:
            os.kill(os.getpid(), 9)
        super()._reach(name)
pull(Store.open(root, files=Kill(), driver="overlay" if os.geteuid() == 0 else "vfs"), [Served(open(layer, "rb").read())], "app:1")
"""


def test_a_killed_pull_is_repeated_by_three_at_once(tmp_path: Path) -> None:
    # F3: podman#14003
    layer = tmp_path / "layer"
    layer.write_bytes(LAYERS[1])
    command = [sys.executable, "-c", KILLED, str(tmp_path / "data")]
    for at in (1, 7, 12, 15, 18, 21, 26):
        assert subprocess.run([*command, str(at), str(layer)], check=False).returncode == -9
    three = [subprocess.Popen([*command, "-1", str(layer)]) for _ in range(3)]
    assert [process.wait(60) for process in three] == [0, 0, 0]
    with Store.open(str(tmp_path / "data")) as store:
        store.collector.collect(partials_kept=None)
        assert store.fsck.run().findings == ()
        assert store.lookup.find("app:1").image.size == 300_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """A file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    target = str(tmp_path / "small")
    os.mkdir(target)
    Tmpfs(target, size=8 << 20, mode=0o700).execute()
    yield target
    Unmount(target, detach=True).execute()


@pytest.mark.root
def test_a_really_full_disk_can_be_emptied(small_disk: str) -> None:
    # F6: delete works on a full disk; the pull that failed leaves nothing that stays
    with Store.open(f"{small_disk}/data", driver="vfs") as store:
        pull(store, [Served(tar(("a", os.urandom(1 << 20))))], "small:1")
        with pytest.raises(LaminaError) as caught:
            pull(store, [Served(tar(("b", os.urandom(20 << 20))))], "big:1")
        assert isinstance(caught.value, StoreFull) or getattr(caught.value, "errno", None) == errno.ENOSPC
        filler = os.open(f"{small_disk}/filler", os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(filler, bytes(4096)):
                pass
        os.close(filler)
        store.removal.remove("small:1")
        store.leases.close()
        done = store.collector.collect(partials_kept=None)
        assert done.bytes > 1 << 20
        assert done.left == ()
        assert store.fsck.run().findings == ()
        pull(store, [Served(tar(("a", os.urandom(1 << 19))))], "small:2")


@pytest.mark.root
def test_no_inode_left_for_a_place_to_mount_at(small_disk: str) -> None:
    # F6, F7: the store's error; what is there is still read, and with room again it is mounted
    def remount(inodes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,nr_inodes={inodes}", small_disk], check=True)

    with Store.open(f"{small_disk}/data", driver="overlay") as store:
        pull(store, served(), "app:1")
        key = store.images.snapshot(store.lookup.find("app:1").image.id)
        assert key is not None
        store.leases.close()
        info = os.statvfs(small_disk)
        remount(info.f_files - info.f_ffree)
        with pytest.raises(StoreFull) as caught, store.snapshots.mounted(key):
            pass
        assert caught.value.path.endswith("/mnt")
        remount(info.f_files)
        with store.snapshots.mounted(key) as tree:
            assert Path(tree, "etc/a").read_bytes() == b"1" * 9000
        assert store.fsck.run().findings == ()


@pytest.mark.parametrize("driver", ["vfs", pytest.param("overlay", marks=pytest.mark.root)])
def test_a_pull_with_too_few_descriptors(base: str, driver: str) -> None:
    # F7: EMFILE, wherever it comes, is the store's error; nothing stays of it, and with enough the pull works
    said = {pull_with(f"{base}/{spare}", driver, spare) for spare in range(2, 40, 5)}
    assert said == {"it worked", "refused"}
    for spare in range(2, 40, 5):
        with Store.open(f"{base}/{spare}") as store:
            assert [finding for finding in store.fsck.run().findings if finding.harmful] == []
            store.collector.collect(partials_kept=None)
            assert store.fsck.run().findings == ()
            pull(store, served(), "app:1")


def pull_with(root: str, driver: str, spare: int) -> str:
    """Pulls in a process of its own that may open so many files more; returns what came of it."""
    with Store.open(root, driver=driver) as store:
        pull(store, served()[:1], "app:2")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.closerange(3, 4096)
            with Store.open(root) as store:
                most = max(map(int, os.listdir("/proc/self/fd"))) + spare
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
                pull(store, served(), "app:1")
            status = 0
        except LaminaError:
            status = 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return {0: "it worked", 2: "refused"}[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
