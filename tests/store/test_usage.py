"""`system df`: one accounting, in which shared layers count once and du agrees (S45, A1)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.spec.digest import Digest
from lamina.store.store import Store
from lamina.testing.store_images import Served, pull, tar

BASE = tar(*((f"base{number}", os.urandom(50_000)) for number in range(40)))


def du(root: str) -> int:
    """Bytes on disk of every file and directory, hard links once."""
    seen: set[int] = set()
    total = os.lstat(root).st_blocks * 512
    for base, directories, files in os.walk(root):
        for name in (*directories, *files):
            info = os.lstat(os.path.join(base, name))
            if stat.S_ISDIR(info.st_mode) or info.st_ino not in seen:
                total += info.st_blocks * 512
                seen.add(info.st_ino)
    return total


@pytest.fixture(params=["overlay", "vfs"])
def any_store(request: pytest.FixtureRequest, open_store: Callable[..., Store]) -> Store:
    if request.param == "overlay" and os.geteuid() != 0:
        pytest.skip("mounting an overlay needs root")
    return open_store(driver=request.param)


def test_df_says_what_du_says(any_store: Store) -> None:
    # A1: no bytes that no command can see
    store = any_store
    image = pull(store, [Served(BASE), Served(tar(("own", os.urandom(200_000))))], "app:1")
    store.snapshots.prepare("rw", store.images.snapshot(image.id))
    with store.snapshots.mounted("rw") as path:
        Path(path, "written").write_bytes(os.urandom(300_000))
    store.snapshots.prepare("work", store.images.snapshot(image.id))
    with store.snapshots.mounted("work") as path:
        Path(path, "built").write_bytes(os.urandom(400_000))
    store.snapshots.commit("work", "step")
    with store.db.write() as connection:
        connection.execute(
            "INSERT INTO containers (id, image_id, snapshot_key) VALUES ('c', ?, 'rw')", (str(image.id),)
        )
        connection.execute("INSERT INTO build_cache (key, snapshot) VALUES ('k', 'step')")
    with store.blobs.ingest(Digest.of(b"later")) as writer:
        assert writer is not None
        writer.write(os.urandom(100_000))
    usage = store.usage.read()
    # What is left is the directories of the store itself and the descriptions beside the trees.
    overhead = 4096 * (8 + 4 * len(store.snapshots.all()))
    assert usage.disk <= du(store.root) <= usage.disk + overhead
    assert usage.containers.size == 300_000
    assert usage.cache.size == 400_000
    assert usage.partials >= 100_000


def test_shared_layers_count_once(any_store: Store) -> None:
    store = any_store
    base = 40 * 50_000
    one = pull(store, [Served(BASE), Served(tar(("one", b"1" * 1000)))], "one")
    two = pull(store, [Served(BASE), Served(tar(("two", b"2" * 500)))], "two")
    usage = store.usage.read()
    assert (usage.images.total, usage.images.active) == (2, 0)
    assert usage.images.size == base + 1500
    assert usage.images.reclaimable == base + 1500
    each = {image.id: image for image in usage.each}
    assert (each[one.id].shared, each[one.id].unique) == (base, 1000)
    assert (each[two.id].shared, each[two.id].unique) == (base, 500)
    with store.db.write() as connection:
        connection.execute("INSERT INTO containers (id, image_id) VALUES ('c', ?)", (str(one.id),))
    usage = store.usage.read()
    assert usage.images.active == 1
    assert usage.images.reclaimable == 500  # the base is in use by the container's image
    assert {image.id: image.containers for image in usage.each} == {one.id: 1, two.id: 0}


def test_an_empty_store_holds_nothing(store: Store) -> None:
    usage = store.usage.read()
    assert (usage.images.total, usage.images.size, usage.blobs.size, usage.partials) == (0, 0, 0, 0)
