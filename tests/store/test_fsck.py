"""Every damage is found, named and isolated; repair puts right what can be; a lost index comes back (F4, F5, F20)."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable

import pytest

from lamina.progress import Progress
from lamina.spec.digest import Digest
from lamina.store.db import DamagedDatabase
from lamina.store.records import ImageRecord
from lamina.store.store import Store
from lamina.testing.store_images import Served, config_of, pull, tar

GOOD = tar(("good", b"1" * 5000))
BAD = tar(("bad", b"2" * 5000))


@pytest.fixture
def images(store: Store) -> tuple[ImageRecord, ImageRecord]:
    good, bad = pull(store, [Served(GOOD)], "good:1"), pull(store, [Served(BAD)], "bad:1")
    store.leases.close()
    return good, bad


def path_of(store: Store, digest: Digest) -> str:
    path = store.blobs.path(digest)
    assert path is not None
    return path


def cut(path: str) -> None:
    os.truncate(path, 10)


def flip(path: str) -> None:
    with open(path, "r+b") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 0x20]))


def config_blob(_store: Store, bad: ImageRecord) -> Digest:
    return bad.id


def manifest_blob(_store: Store, bad: ImageRecord) -> Digest:
    digest = bad.digests[0].digest
    assert digest is not None
    return digest


def layer_blob(_store: Store, _bad: ImageRecord) -> Digest:
    return Served(BAD).descriptor.digest


def test_a_sound_store_is_clean(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    seen: list[Progress] = []
    report = store.fsck.run(report=seen.append)
    assert report.clean
    assert report.findings == ()
    assert (report.blobs, report.snapshots) == (6, 2)
    assert len(seen) == 6
    assert report.bytes > 0


@pytest.mark.parametrize("which", [config_blob, manifest_blob, layer_blob])
@pytest.mark.parametrize("damage", [cut, flip, os.unlink])
def test_one_damaged_blob_harms_one_image(
    store: Store,
    images: tuple[ImageRecord, ImageRecord],
    which: Callable[[Store, ImageRecord], Digest],
    damage: Callable[[str], None],
) -> None:
    good, bad = images
    digest = which(store, bad)
    damage(path_of(store, digest))
    report = store.fsck.run()
    assert [finding.subject for finding in report.findings] == [str(digest)]
    assert report.findings[0].harmful
    assert report.findings[0].cause
    # everything else goes on
    assert {each.id for each in store.images.all()} == {good.id, bad.id}
    assert store.images.config(good.id)
    # repair sets it aside, a pull brings it back
    repaired = store.fsck.run(repair=True)
    assert repaired.findings
    pull(store, [Served(GOOD)], "good:1")
    pull(store, [Served(BAD)], "bad:1")
    store.leases.close()
    assert store.fsck.run().findings == ()
    assert store.images.config(bad.id)
    assert store.images.manifests(bad.id)


@pytest.mark.parametrize("which", [config_blob, manifest_blob, layer_blob])
def test_a_damaged_image_can_be_removed(
    store: Store, images: tuple[ImageRecord, ImageRecord], which: Callable[[Store, ImageRecord], Digest]
) -> None:
    # F4: podman could not remove what it could not read
    os.unlink(path_of(store, which(store, images[1])))
    store.removal.remove("bad:1")
    store.collector.collect()
    assert {each.id for each in store.images.all()} == {images[0].id}
    assert store.fsck.run().findings == ()


def test_a_lost_tree_is_found_and_fetched_again(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    good, bad = images
    key = store.images.snapshot(bad.id)
    assert key is not None
    shutil.rmtree(store.paths.snapshot(store.snapshots.stat(key).directory))
    report = store.fsck.run()
    assert [(finding.kind, finding.subject) for finding in report.findings] == [("snapshot", key)]
    again = store.fsck.run(repair=True)
    kinds = {(finding.kind, finding.subject, bool(finding.repaired)) for finding in again.findings}
    assert kinds == {("snapshot", key, True), ("image", str(bad.id), False)}  # only a pull can bring the layer back
    assert not again.clean
    layer = Served(BAD)
    pull(store, [layer], "bad:1")
    store.leases.close()
    assert layer.sent == 0  # its blob was still here
    assert store.fsck.run().findings == ()
    with store.snapshots.mounted(key) as path:
        assert os.listdir(path) == ["bad"]
    assert store.images.get(good.id)


def test_leftovers_are_named_and_do_no_harm(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    # A1: every orphan by name, with its cause
    os.mkdir(f"{store.paths.snapshots}/stranger")
    orphan = b"nobody knows me"
    with open(f"{store.paths.blobs}/sha256/{Digest.of(orphan).hex}", "wb") as file:
        file.write(orphan)
    for path in (f"{store.paths.ingest}/README", f"{store.paths.blobs}/sha256/notes"):
        with open(path, "wb"):
            pass
    report = store.fsck.run()
    assert {os.path.basename(finding.subject) for finding in report.findings} == {
        "stranger",
        str(Digest.of(orphan)),
        "README",
        "notes",
    }
    assert not any(finding.harmful for finding in report.findings)
    store.collector.collect()  # bytes without a row have no other owner
    assert not os.path.exists(f"{store.paths.blobs}/sha256/{Digest.of(orphan).hex}")
    store.fsck.run(repair=True)
    assert os.listdir(store.paths.snapshots) != []
    assert "stranger" not in os.listdir(store.paths.snapshots)
    assert any(name.startswith("snapshot-stranger") for name in os.listdir(store.paths.quarantine))


def test_open_modes_are_found_and_closed(store: Store) -> None:
    # threat 59
    os.chmod(store.paths.blobs, 0o755)
    [finding] = store.fsck.run().findings
    assert (finding.kind, finding.subject) == ("mode", store.paths.blobs)
    assert store.fsck.run(repair=True).clean
    assert stat.S_IMODE(os.stat(store.paths.blobs).st_mode) == 0o700


def test_sizes_alone_can_be_checked(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    flip(path_of(store, images[1].id))
    assert store.fsck.run(content=False).clean
    cut(path_of(store, images[1].id))
    assert not store.fsck.run(content=False).clean


@pytest.mark.parametrize("loss", ["deleted", "emptied"])
def test_a_lost_index_is_made_again_from_the_content(
    store: Store, images: tuple[ImageRecord, ImageRecord], loss: str
) -> None:
    # F5: never an empty store over full directories, never a restart loop
    store.close()
    for suffix in ("", "-wal", "-shm"):
        path = store.paths.database + suffix
        if os.path.exists(path):
            if loss == "deleted":
                os.unlink(path)
            else:
                os.truncate(path, 0)
    with Store.open(store.root) as again:
        assert {each.id for each in again.images.all()} == {image.id for image in images}
        for image in images:
            assert again.images.config(image.id)
            assert again.images.manifests(image.id)
            assert again.images.get(image.id).size == image.size
            key = again.images.snapshot(image.id)
            assert key is not None
            with again.snapshots.mounted(key) as path:
                assert len(os.listdir(path)) == 1
        assert again.storage_driver == "vfs"
        assert again.fsck.run().findings == ()
        layer = Served(BAD)
        pull(again, [layer], "bad:1")  # names come back by pulling
        assert layer.sent == 0
        assert again.lookup.find("bad:1").image.id == images[1].id


def test_a_damaged_index_is_set_aside_and_made_again(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    store.close()
    with open(store.paths.database, "r+b") as file:
        file.write(os.urandom(8192))
    with pytest.raises(DamagedDatabase) as caught:
        Store.open(store.root)
    assert "--repair" in str(caught.value.hint)
    aside = Store.reset_index(store.root)
    assert os.path.exists(aside)
    with Store.open(store.root) as again:
        assert {each.id for each in again.images.all()} == {image.id for image in images}
        assert again.fsck.run().findings == ()


def test_an_image_that_never_had_a_manifest_comes_back_too(
    store: Store, images: tuple[ImageRecord, ImageRecord]
) -> None:
    # F5: built, committed and imported images have none until they are pushed
    built = store.images.put(config_of([Served(GOOD)], made="here"))
    store.close()
    os.unlink(store.paths.database)
    with Store.open(store.root) as again:
        assert {each.id for each in again.images.all()} == {built.id, *(image.id for image in images)}
        again.collector.collect()
        assert again.images.config(built.id).config.labels == {"made": "here"}
