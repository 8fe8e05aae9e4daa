"""Leases and the collector: what is needed stays, what is not goes, whoever dies meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamina.linux.mounts import mount_points
from lamina.spec.digest import Digest
from lamina.store.layers import LayerRecord
from lamina.store.leases import process_start
from lamina.store.store import Store
from lamina.testing.store_images import Served, config_of, pull, tar

if TYPE_CHECKING:
    from tests.store.conftest import Clock

DATA = os.urandom(10_000)


def blobs(store: Store) -> set[Digest]:
    return {each.digest for each in store.blobs.all()}


def test_a_blob_lives_as_long_as_its_lease(store: Store) -> None:
    with store.lease("ingest") as lease:
        digest = store.blobs.put(DATA, lease=lease)
        assert store.collector.collect().blobs == 0
        assert blobs(store) == {digest}
    done = store.collector.collect()
    assert (done.blobs, done.left) == (1, ())
    assert done.bytes >= len(DATA)
    assert os.listdir(f"{store.paths.blobs}/sha256") == []


def test_holding_what_is_there_is_enough(store: Store) -> None:
    # F10: a re-referenced old blob
    with store.lease("one") as lease:
        digest = store.blobs.put(DATA, lease=lease)
    with store.lease("two") as lease:
        assert store.blobs.hold(digest, lease=lease)
        store.collector.collect()
        assert store.blobs.read(digest) == DATA


def test_a_blob_that_was_marked_can_be_wanted_again_before_the_sweep(store: Store) -> None:
    # F10, F11: pause the collector between mark and sweep
    with store.lease("one") as lease:
        digest = store.blobs.put(DATA, lease=lease)
    store.collector.mark()
    assert store.blobs.stat(digest) is None  # existence is answered from one truth
    with store.lease("two") as lease:
        store.blobs.put(DATA, lease=lease)
        store.collector.collect()
        assert store.blobs.read(digest) == DATA


def test_a_blob_being_written_is_not_swept(store: Store) -> None:
    with store.blobs.ingest(Digest.of(DATA)) as writer:
        assert writer is not None
        writer.write(DATA)
        store.collector.collect(partials_kept=None)
        writer.commit()
    assert store.blobs.read(Digest.of(DATA)) == DATA


def test_leases_of_the_dead_are_reaped(store: Store) -> None:
    # F8, F9: the holder was killed
    code = "import sys; from lamina.store.store import Store; Store.open(sys.argv[1]).lease('work').add('blob', 'x')"
    subprocess.run([sys.executable, "-c", code, store.root], check=True)
    [lease] = store.leases.all()
    assert (lease.purpose, lease.alive) == ("work", False)
    assert not store.fsck.run().clean
    store.collector.collect()
    assert store.leases.all() == []


def test_a_process_number_given_again_is_another_process(store: Store) -> None:
    store.lease("work")
    assert [lease.alive for lease in store.leases.all()] == [True]
    with store.db.write() as connection:
        start = connection.execute("SELECT start FROM leases").fetchone()[0]
        connection.execute("UPDATE leases SET start = ?", (start + "0",))
    assert [lease.alive for lease in store.leases.all()] == [False]


def test_a_live_owner_keeps_its_lease_whatever_the_clock_says(open_store: Callable[..., Store], clock: Clock) -> None:
    # F18
    store = open_store(clock=clock)
    store.lease("long work")
    for days in (-400, 800):
        clock.advance(days=days)
        assert store.leases.reap() == []


def test_an_owner_that_cannot_be_seen_has_until_its_time_is_up(open_store: Callable[..., Store], clock: Clock) -> None:
    store = open_store(clock=clock)
    store.leases.acquire("elsewhere", ttl=timedelta(hours=1))
    start = process_start(os.getpid())
    assert start is not None
    boot, _namespace, _ticks = start.split(" ")
    with store.db.write() as connection:
        connection.execute("UPDATE leases SET start = ?", (f"{boot} pid:[1] 5",))
    assert store.leases.reap() == []
    clock.advance(hours=2)
    assert len(store.leases.reap()) == 1


def test_a_lease_may_outlive_its_process(open_store: Callable[..., Store], clock: Clock) -> None:
    store = open_store(clock=clock)
    lease = store.leases.acquire("kept for later", ttl=timedelta(days=1), outlive=True)
    digest = store.blobs.put(DATA, lease=lease)
    store.leases.close()
    store.collector.collect()
    assert blobs(store) == {digest}
    clock.advance(days=2)
    store.collector.collect()
    assert blobs(store) == set()


def test_without_a_lease_the_process_holds(store: Store) -> None:
    digest = store.blobs.put(DATA)
    store.collector.collect()
    assert blobs(store) == {digest}
    store.close()
    with Store.open(store.root) as other:
        other.collector.collect()
        assert blobs(other) == set()


def test_snapshots_in_use_stay(store: Store) -> None:
    # F9
    made = pull(store, [Served(tar(("a", b"1")))], "app")
    store.snapshots.prepare("rw", store.images.snapshot(made.id))
    with store.db.write() as connection:
        connection.execute("INSERT INTO containers (id, image_id, snapshot_key) VALUES ('c', ?, 'rw')", (str(made.id),))
    store.leases.close()
    store.removal.remove("app", force=True)
    store.collector.collect()
    assert {each.key for each in store.snapshots.all()} == {"rw", str(made.chain_id)}
    with store.db.write() as connection:
        connection.execute("DELETE FROM containers")
    assert store.collector.collect().snapshots == 2


def test_build_cache_holds_its_trees_and_their_layers(store: Store) -> None:
    made = pull(store, [Served(tar(("a", b"1")))], "app")
    store.snapshots.prepare("work", store.images.snapshot(made.id))
    store.snapshots.commit("work", "step")
    with store.db.write() as connection:
        connection.execute("INSERT INTO build_cache (key, snapshot) VALUES ('k', 'step')")
    store.removal.remove("app")
    store.leases.close()
    store.collector.collect()
    assert {each.key for each in store.snapshots.all()} == {"step", str(made.chain_id)}
    with store.db.write() as connection:
        connection.execute("DELETE FROM build_cache")
    store.collector.collect()
    assert store.snapshots.all() == []


def test_an_active_snapshot_that_nobody_holds_goes(store: Store) -> None:
    with store.lease("run") as lease:
        store.snapshots.prepare("rw", lease=lease)
        assert store.collector.collect().snapshots == 0
    assert store.collector.collect().snapshots == 1
    assert os.listdir(store.paths.snapshots) == []


def test_partials_are_kept_for_a_while(open_store: Callable[..., Store], clock: Clock) -> None:
    # A10, F15
    store = open_store(clock=clock)
    with store.blobs.ingest(Digest.of(DATA)) as writer:
        assert writer is not None
        writer.write(DATA[:100])
    modified = store.blobs.partials()[0].modified
    clock.now = clock.now.fromtimestamp(modified, tz=clock.now.tzinfo)
    clock.advance(days=6)
    assert store.collector.collect().partials == 0
    assert store.usage.read().partials > 0
    clock.advance(days=2)
    done = store.collector.collect()
    assert (done.partials, store.blobs.partials()) == (1, [])
    assert done.bytes > 0


def test_what_the_index_does_not_know_is_left_alone(store: Store) -> None:
    # F12: unknown = keep
    stranger = f"{store.paths.snapshots}/somebodys"
    os.mkdir(stranger)
    store.collector.collect()
    assert os.path.isdir(stranger)
    assert any("somebodys" in finding.subject for finding in store.fsck.run().findings)


def test_a_second_collection_does_nothing(store: Store) -> None:
    # F13
    pull(store, [Served(tar(("a", b"1")))], "app")
    store.removal.remove("app")
    store.leases.close()
    assert store.collector.collect().bytes > 0
    again = store.collector.collect()
    assert (again.blobs, again.snapshots, again.partials, again.bytes, again.left) == (0, 0, 0, 0, ())


def test_pulls_and_removals_race_with_the_collector(store: Store) -> None:
    # F9, F10: images that share layers come and go while the collector never stops
    base, over = tar(("base", DATA)), threading.Event()
    errors: list[BaseException] = []

    def guard(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    def churn(number: int) -> None:
        for turn in range(6):
            layers = [Served(base), Served(tar(("own", f"{number}-{turn % 2}".encode())))]
            made = pull(store, layers, f"app:{number}")
            with store.lease("read") as lease:
                store.images.hold(made.id, lease)
                assert store.images.config(made.id).raw == config_of(layers).raw
                assert store.blobs.read(layers[0].descriptor.digest) == layers[0].blob
                key = store.images.snapshot(made.id)
                assert key is not None
                with store.snapshots.mounted(key) as path:
                    assert sorted(os.listdir(path)) == ["base", "own"]
            store.removal.remove(f"app:{number}")

    def collect() -> None:
        while not over.is_set():
            store.collector.collect(partials_kept=None)

    collector = threading.Thread(target=guard, args=(collect,))
    workers = [threading.Thread(target=guard, args=(lambda number=number: churn(number),)) for number in range(3)]
    collector.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    over.set()
    collector.join()
    assert errors == []
    store.collector.collect()
    assert store.fsck.run().findings == ()
    assert store.images.all() == []


@pytest.mark.root
def test_a_mount_left_by_a_killed_process_is_taken_away(overlay_store: Store) -> None:
    # F22
    store = overlay_store
    made = pull(store, [Served(tar(("a", b"1"))), Served(tar(("b", b"2")))], "app")
    key = store.images.snapshot(made.id)
    code = (
        "import os, sys; from lamina.store.store import Store; s = Store.open(sys.argv[1]);"
        "s.snapshots.prepare('rw', sys.argv[2]); m = s.snapshots.mounted('rw'); m.__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, store.root, str(key)], check=False).returncode == 9
    assert mount_points(store.root)
    store.collector.collect()
    assert {each.key for each in store.snapshots.all()} == {layer.snapshot for layer in _layers(store, made.id)}
    assert not mount_points(store.root)


def _layers(store: Store, image: Digest) -> list[LayerRecord]:
    return [store.layers.get(chain_id) for _, chain_id in store.images.layers(image)]


def test_a_store_that_never_held_a_tree_can_be_collected(tmp_path: Path) -> None:
    # Collecting and choosing the storage driver of a new store share a lock; once it was waited for forever.
    with Store.open(str(tmp_path / "new")) as new:
        assert new.collector.collect().left == ()
