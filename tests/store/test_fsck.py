"""Every damage is found, named and isolated; repair puts right what can be; a lost index comes back (F4, F5, F20)."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lamina.progress import Progress
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference
from lamina.store.db import DamagedDatabase
from lamina.store.records import ImageRecord
from lamina.store.store import Store
from lamina.testing.store_images import Served, config_of, pull, tar
from lamina.values import replace

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


def lose(store: Store, how: str) -> None:
    """Loses the index."""
    store.close()
    for suffix in ("", "-wal", "-shm"):
        path = store.paths.database + suffix
        if os.path.exists(path):
            if how == "deleted":
                os.unlink(path)
            else:
                os.truncate(path, 0)


@pytest.mark.parametrize("loss", ["deleted", "emptied"])
def test_a_lost_index_is_made_again_from_the_content(
    store: Store, images: tuple[ImageRecord, ImageRecord], loss: str
) -> None:
    # F5: never an empty store over full directories, never a restart loop
    lose(store, loss)
    with Store.open(store.root) as again:
        # names, digests and all: only when it came differs
        assert [replace(each, added_at="") for each in again.images.all()] == [
            replace(each, added_at="") for each in sorted(images, key=lambda image: str(image.id))
        ]
        for image in images:
            assert again.images.config(image.id)
            assert again.images.manifests(image.id)
            key = again.images.snapshot(image.id)
            assert key is not None
            with again.snapshots.mounted(key) as path:
                assert len(os.listdir(path)) == 1
        assert again.lookup.find("bad:1").target == images[1].digests[0].digest  # pushed as it was pulled
        assert again.storage_driver == "vfs"
        layer = Served(BAD)
        pull(again, [layer], "bad:1")
        assert layer.sent == 0


def test_the_loss_of_an_index_is_said_until_it_is_noted(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    # F5: an empty `ps` must have a reason that somebody can find
    shutil.rmtree(store.paths.snapshot(store.snapshots.all()[1].directory))  # so that one image is lost too
    lose(store, "deleted")
    with Store.open(store.root) as again:
        (left,) = again.images.all()
        (lost,) = {image.tags[0].familiar for image in images} - {tag.familiar for tag in left.tags}
        for repair in (False, False, True):
            found = {(each.kind, each.subject): each for each in again.fsck.run(repair=repair).findings}
            assert "no build cache" in found["index", store.paths.database].problem
            assert "pull or load it again" in found["name", lost].problem
            assert all(bool(each.repaired) is repair for each in found.values())
        assert again.fsck.run().findings == ()


@pytest.mark.parametrize("content", [None, b"", b"junk", b"[]", b'{"version": 99}', b'{"version": 1, "tags": [["a"]]}'])
def test_images_come_back_even_without_the_file_of_names(
    store: Store, images: tuple[ImageRecord, ImageRecord], content: bytes | None
) -> None:
    if content is None:
        os.unlink(store.paths.names)
    else:
        Path(store.paths.names).write_bytes(content)
    (finding,) = store.fsck.run().findings
    assert (finding.subject, finding.harmful) == (store.paths.names, False)
    lose(store, "deleted")
    with Store.open(store.root) as again:
        assert {each.id for each in again.images.all()} == {image.id for image in images}
        assert all(each.dangling for each in again.images.all())
        again.fsck.run(repair=True)
        assert again.fsck.run().findings == ()
        again.refs.tag(Reference.parse("again:1"), images[0].id)
        assert again.ledger.read().tags == (("docker.io/library/again", "1", str(images[0].id), ""),)


def test_an_unusable_file_of_names_is_written_again(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    Path(store.paths.names).write_bytes(b"junk")
    assert store.fsck.run(repair=True).clean
    assert store.fsck.run().findings == ()
    assert len(store.ledger.read().tags) == 2
    assert stat.S_IMODE(os.stat(store.paths.names).st_mode) == 0o600  # threat 59


def test_names_that_stay_cost_no_write(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    before = os.stat(store.paths.names)
    store.refs.tag(Reference.parse("good:1"), images[0].id, target=images[0].digests[0].digest)
    pull(store, [Served(BAD)], "bad:1")
    after = os.stat(store.paths.names)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_file_of_names_follows_every_change(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    good, bad = images
    child = store.images.put(config_of([Served(GOOD)], of="good"), parent=good.id, tags=[Reference.parse("child:1")])
    assert store.ledger.read().parents == ((str(child.id), str(good.id)),)
    store.refs.untag(Reference.parse("bad:1"))
    store.refs.add_digest(Reference.parse("else.test/where").repository, Digest.of(b"x"), bad.id)
    store.removal.remove("child:1")
    store.removal.prune([], untag=True)
    names = store.ledger.read()
    assert [row[0] for row in names.tags] == ["docker.io/library/good"]
    assert "else.test/where" in [row[0] for row in names.digests]
    assert names.parents == ()
    assert store.ledger.current()


def test_volumes_come_back_with_their_content(store: Store, images: tuple[ImageRecord, ImageRecord]) -> None:
    from lamina.runtime.volumes import Volumes

    volumes = Volumes(store.db, store.paths.volumes, lambda: "2026-01-01T00:00:00Z")
    Path(volumes.create("data", labels={"a": "b"}).path, "row").write_bytes(b"kept")
    anonymous = volumes.create()
    lose(store, "deleted")
    with Store.open(store.root) as again:
        found = {each.name: each for each in Volumes(again.db, again.paths.volumes, lambda: "").all()}
        assert set(found) == {"data", anonymous.name}
        assert Path(found["data"].path, "row").read_bytes() == b"kept"
        assert (found["data"].anonymous, found[anonymous.name].anonymous) == (False, True)


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
        assert again.fsck.run(repair=True).clean
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
