"""From a served layer to a committed snapshot: both digests, every way a layer can lean on those below it."""

from __future__ import annotations

import gzip
import os
import stat
import threading
from collections.abc import Callable

import pytest

from lamina.errors import Cancelled, LaminaError
from lamina.layer.paths import UnsafeEntry
from lamina.progress import Progress
from lamina.spec.digest import Digest, chain_ids
from lamina.store.pipeline import DiffIdMismatch, LayerSource
from lamina.store.store import Store
from lamina.store.writing import DigestMismatch, SizeMismatch
from lamina.testing.evil_tar import tree_state
from lamina.testing.store_images import Served, config_of, pull, tar

BIG = os.urandom(3 << 20)
BASE = tar(
    ("./", 0o755),
    ("etc", 0o750),
    ("etc/conf", b"base"),
    ("etc/gone", b"base"),
    ("usr", 0o755),
    ("usr/lib", 0o711),
    ("usr/lib/libc", b"c"),
    ("lib", "usr/lib"),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/cache/old", b"old"),
    ("big", BIG),
)
TREES = {
    "plain files": (tar(("etc/new", b"1"), ("opt/tool", b"2")),),
    "a whiteout": (tar(("etc/.wh.gone", b"")),),
    "an opaque directory": (tar(("var/cache", 0o700), ("var/cache/.wh..wh..opq", b""), ("var/cache/new", b"1")),),
    "through a link below": (tar(("lib/libm", b"m"), ("lib/deep/er", b"x")),),
    "a hard link to below": (tar(("etc/conf2", "=etc/conf"), ("etc/conf3", "=etc/conf2")),),
    "a directory replaced by a file": (tar(("usr", b"now a file")),),
    "a file replaced by a directory": (tar(("etc/conf", 0o755), ("etc/conf/d", b"1")),),
    "hidden, then back": (tar((".wh.var", b"")), tar(("var/lib/x", b"1"))),
    "implicit below opaque": (tar(("var/.wh..wh..opq", b"")), tar(("var/cache/fresh", b"1"))),
    "three deep": (tar(("etc/a", b"1")), tar(("etc/b", b"2"), ("etc/.wh.conf", b"")), tar(("etc/conf", b"3"))),
    "a link replaced by a directory": (tar(("lib", 0o755), ("lib/own", b"1")), tar(("lib/more", b"2"))),
    "its own root": (tar(("./", 0o1777), ("tmp/x", b"1")), tar(("tmp/y", b"2"))),
    "nothing": (tar(),),
}


def served(*archives: bytes) -> list[Served]:
    return [Served(archive) for archive in archives]


def tree_of(store: Store, image: Digest) -> dict[str, tuple[object, ...]]:
    key = store.images.snapshot(image)
    assert key is not None
    with store.snapshots.mounted(key) as path:
        return tree_state(path, times=False)


@pytest.mark.root
@pytest.mark.parametrize("name", TREES)
def test_layers_unpacked_apart_are_as_if_applied_in_order(name: str, tmp_path: os.PathLike[str]) -> None:
    # the overlay driver unpacks layers alone and in parallel; vfs applies them one on the other
    trees = []
    for driver in ("overlay", "vfs"):
        with Store.open(f"{tmp_path}/{driver}", driver=driver) as store:
            trees.append(tree_of(store, pull(store, served(BASE, *TREES[name])).id))
            assert store.fsck.run().findings == ()
    assert trees[0] == trees[1]
    assert len(trees[0]) > 5


@pytest.fixture(params=["overlay", "vfs"])
def any_store(request: pytest.FixtureRequest, open_store: Callable[..., Store]) -> Store:
    if request.param == "overlay" and os.geteuid() != 0:
        pytest.skip("mounting an overlay needs root")
    return open_store(driver=request.param)


def test_implicit_directories_look_like_those_below(any_store: Store) -> None:
    image = pull(any_store, served(BASE, tar(("etc/new", b"1"))))
    key = any_store.images.snapshot(image.id)
    assert key is not None
    with any_store.snapshots.mounted(key) as path:
        assert stat.S_IMODE(os.stat(f"{path}/etc").st_mode) == 0o750


def test_layers_are_known_by_chain_and_blobs_by_layer(any_store: Store) -> None:
    # S01: digest, diffID and chain id are three things
    layers = served(BASE, tar(("x", b"1")))
    image = pull(any_store, layers, "debian:12")
    chain = chain_ids([layer.diff_id for layer in layers])
    assert image.chain_id == chain[-1]
    for layer, chain_id in zip(layers, chain, strict=True):
        record = any_store.layers.get(chain_id)
        assert record.diff_id == layer.diff_id
        assert any_store.layers.blobs(layer.diff_id) == [layer.descriptor]
        assert any_store.layers.diff_id_of(layer.descriptor.digest) == layer.diff_id
        assert any_store.blobs.read(layer.descriptor.digest) == layer.blob  # decision 8: the blob as fetched
    assert image.size == len(BIG) + len(b"basebasecold") + len(b"usr/lib") + 1  # a link counts with its target


def test_a_second_pull_fetches_nothing(any_store: Store) -> None:
    # S03
    first = served(BASE, tar(("x", b"1")))
    pull(any_store, first, "a")
    seen: list[Progress] = []
    again = [*served(BASE, tar(("x", b"1"))), Served(tar(("y", b"2")))]
    pull(any_store, again, "b", report=seen.append)
    assert [layer.sent for layer in again[:2]] == [0, 0]
    assert again[2].sent == len(again[2].blob)
    statuses = {(event.id, event.status) for event in seen}
    assert (again[0].descriptor.digest.short, "Already exists") in statuses
    assert (again[2].descriptor.digest.short, "Pull complete") in statuses


def test_a_shared_blob_is_unpacked_without_fetching_it_again(any_store: Store) -> None:
    pull(any_store, served(tar(("a", b"1")), BASE))
    other = served(BASE)  # the same layer on another chain
    pull(any_store, other)
    assert other[0].sent == 0


def test_a_broken_transfer_is_continued(any_store: Store) -> None:
    # A10, F3
    layer = Served(BASE, fail_at=1_000_000)
    with pytest.raises(ConnectionResetError):
        pull(any_store, [layer])
    assert any_store.fsck.run().clean
    pull(any_store, [layer])
    assert layer.offsets == [0, 1_000_000]
    assert layer.sent == len(layer.blob)


def test_a_source_that_cannot_continue_starts_over(any_store: Store) -> None:
    layer = Served(BASE, fail_at=1_000_000, resumable=False)
    with pytest.raises(ConnectionResetError):
        pull(any_store, [layer])
    image = pull(any_store, [layer])
    assert layer.offsets == [0, 0]
    assert tree_of(any_store, image.id)


def test_a_rotten_partial_is_thrown_away_and_fetched_again(any_store: Store) -> None:
    # F1: the power cut that zeroes what was not synced
    layer = Served(BASE, fail_at=1_000_000)
    with pytest.raises(ConnectionResetError):
        pull(any_store, [layer])
    [partial] = os.listdir(any_store.paths.ingest)
    with open(f"{any_store.paths.ingest}/{partial}", "r+b") as file:
        file.seek(500_000)
        file.write(bytes(100_000))
    image = pull(any_store, [layer])
    assert layer.offsets == [0, 1_000_000, 0]
    assert any_store.blobs.read(layer.descriptor.digest, limit=1 << 30) == layer.blob
    assert tree_of(any_store, image.id)


def test_a_damaged_stored_blob_heals_while_it_is_needed(any_store: Store) -> None:
    # F20: self-heal from the source
    first = Served(BASE)
    pull(any_store, [Served(tar(("a", b"1"))), first])
    path = any_store.blobs.path(first.descriptor.digest)
    assert path is not None
    with open(path, "r+b") as file:
        file.seek(200_000)
        file.write(b"rot")
    again = Served(BASE)
    image = pull(any_store, [again])
    assert again.sent == len(again.blob)
    assert any_store.blobs.read(first.descriptor.digest, limit=1 << 30) == first.blob
    assert tree_of(any_store, image.id)
    assert any_store.fsck.run().clean


def wrong_digest(layer: Served) -> LayerSource:
    return LayerSource(layer.diff_id, layer.descriptor, Served(layer.content, layer.blob[:-9] + b"corrupted").fetch)


def wrong_diff_id(layer: Served) -> LayerSource:
    return LayerSource(Digest.of(b"another tar"), layer.descriptor, layer.fetch)


def too_short(layer: Served) -> LayerSource:
    return LayerSource(layer.diff_id, layer.descriptor, Served(layer.content, layer.blob[:-1]).fetch)


def too_long(layer: Served) -> LayerSource:
    return LayerSource(layer.diff_id, layer.descriptor, Served(layer.content, layer.blob + b"more").fetch)


def no_archive(_layer: Served) -> LayerSource:
    junk = Served(b"", blob=gzip.compress(b"no tar at all" * 1000))
    return LayerSource(Digest.of(b"no tar at all" * 1000), junk.descriptor, junk.fetch)


def no_stream(_layer: Served) -> LayerSource:
    junk = Served(b"", blob=b"\x1f\x8b\x08\x00" + os.urandom(100_000))
    return LayerSource(Digest.of(b""), junk.descriptor, junk.fetch)


def escaping(_layer: Served) -> LayerSource:
    return Served(tar(("../outside", b"x"))).source()


@pytest.mark.parametrize(
    ("break_", "error"),
    [
        (wrong_digest, DigestMismatch),
        (wrong_diff_id, DiffIdMismatch),
        (too_short, SizeMismatch),
        (too_long, SizeMismatch),
        (no_archive, LaminaError),
        (no_stream, LaminaError),
        (escaping, UnsafeEntry),
    ],
)
def test_bad_content_leaves_nothing_visible(
    any_store: Store, break_: Callable[[Served], LayerSource], error: type[LaminaError]
) -> None:
    good = Served(BASE)
    bad = break_(Served(tar(("x", os.urandom(500_000)))))
    with any_store.lease("pull") as lease, pytest.raises(error):
        any_store.unpacker.ensure([good.source(), bad], lease=lease)
    chain = chain_ids([good.diff_id, bad.diff_id])
    assert any_store.layers.find(chain[1]) is None
    with any_store.db.read() as connection:
        active = connection.execute("SELECT count(*) FROM snapshots WHERE kind = 'active'").fetchone()
    assert active == (0,)
    assert any_store.fsck.run().findings == ()
    any_store.collector.collect(partials_kept=None)
    assert os.listdir(any_store.paths.snapshots) == []
    assert os.listdir(any_store.paths.ingest) == []


def test_wrong_bytes_are_blamed_on_the_bytes_even_when_inflating_fails_first(overlay_store: Store) -> None:
    # the error must say "wrong digest", not "bad gzip", and the bytes must not stay to be resumed
    layer = Served(BASE)
    rotten = bytearray(layer.blob)
    rotten[50_000:50_100] = os.urandom(100)
    source = LayerSource(layer.diff_id, layer.descriptor, Served(BASE, bytes(rotten)).fetch)
    with overlay_store.lease("pull") as lease, pytest.raises(DigestMismatch):
        overlay_store.unpacker.ensure([source], lease=lease)
    assert os.listdir(overlay_store.paths.ingest) == []


def test_what_a_failed_pull_finished_is_kept_for_the_next(any_store: Store) -> None:
    # A10: 99 % done is not 0 %
    good, bad = Served(BASE), Served(tar(("x", b"1")), fail_at=0)
    with pytest.raises(ConnectionResetError):
        pull(any_store, [good, bad], jobs=1)
    pull(any_store, [good, bad])
    assert good.sent == len(good.blob)


def test_a_pull_can_be_cancelled(any_store: Store) -> None:
    cancelled = threading.Event()
    layer = Served(BASE, before=lambda sent: cancelled.set() if sent > 500_000 else None)
    with any_store.lease("pull") as lease, pytest.raises(Cancelled):
        any_store.unpacker.ensure([layer.source()], lease=lease, cancelled=cancelled)
    assert layer.sent < len(layer.blob)
    assert any_store.fsck.run().clean
    layer.before = None
    pull(any_store, [layer])
    assert layer.offsets[1] > 0


def test_layers_arrive_in_parallel(any_store: Store) -> None:
    # two layers that each wait for the other to have started
    both = threading.Barrier(2)
    met: list[int] = []

    def meet(sent: int) -> None:
        if sent == 0:
            met.append(both.wait(30))

    layers = [Served(tar((f"file{number}", b"x")), before=meet) for number in range(2)]
    pull(any_store, layers, jobs=2)
    assert sorted(met) == [0, 1]


def test_the_same_layer_twice_in_one_image(any_store: Store) -> None:
    layer = tar(("x", b"1"))
    image = pull(any_store, [Served(layer), Served(layer), Served(tar((".wh.x", b""))), Served(layer)])
    assert "x" in tree_of(any_store, image.id)
    assert any_store.fsck.run().clean


def test_a_tree_whose_process_died_before_saying_so_is_used(any_store: Store) -> None:
    layer = Served(BASE)
    image = pull(any_store, [layer])
    with any_store.db.write() as connection:
        connection.execute("DELETE FROM images")
        connection.execute("DELETE FROM layers")
    again = Served(BASE)
    assert pull(any_store, [again]).id == image.id
    assert again.sent == 0


def test_every_layer_is_reported_to_its_end(any_store: Store) -> None:
    seen: list[Progress] = []
    layers = served(BASE, tar(("x", b"1")))
    pull(any_store, layers, report=seen.append)
    for layer in layers:
        words = [event.status for event in seen if event.id == layer.descriptor.digest.short]
        assert words[0] == "Pulling fs layer"
        assert words[-1] == "Pull complete"
        assert "Download complete" in words
    downloads = [event for event in seen if event.status == "Downloading"]
    assert downloads
    assert all(event.total == len(layers[0].blob) for event in downloads)


def test_built_layers_are_registered_under_their_chain(any_store: Store) -> None:
    base = Served(BASE)
    image = pull(any_store, [base])
    below = any_store.images.snapshot(image.id)
    any_store.snapshots.prepare("step", below)
    with any_store.snapshots.mounted("step") as path:
        with open(f"{path}/made", "w", encoding="utf-8") as file:
            file.write("by a build")
    any_store.snapshots.commit("step", "build-1", sync=False)
    any_store.snapshots.sync()
    made = Served(tar(("made", b"by a build")))
    any_store.layers.register([base.diff_id, made.diff_id], "build-1")
    result = any_store.images.put(config_of([base, made]))
    assert result.size == image.size + 10
    assert any_store.images.snapshot(result.id) == "build-1"
    assert "made" in tree_of(any_store, result.id)
