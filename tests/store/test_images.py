"""Images and names: what users type finds what they mean, and what was pulled stays byte for byte."""

from __future__ import annotations

import threading

import pytest

from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import dumps
from lamina.spec.manifest import Index, parse_manifest
from lamina.spec.reference import Reference
from lamina.store.images import ImageMismatch
from lamina.store.records import AmbiguousImage, ImageNotFound, ImageRecord, LayerNotFound, NameNotFound
from lamina.store.store import Store
from lamina.testing.store_images import Served, config_of, manifest_of, pull, tar

LAYER = tar(("a", b"1"))


def image(store: Store, *names: str, **labels: str) -> ImageRecord:
    return pull(store, [Served(LAYER)], *names, labels=labels)


def find(store: Store, text: str) -> ImageRecord:
    return store.lookup.find(text).image


def name(text: str) -> Reference:
    return Reference.parse(text)


def test_an_image_is_found_by_all_its_names(store: Store) -> None:
    # S05, S17
    made = image(store, "debian:12")
    digest = made.digests[0].digest
    for text in (
        "debian:12",
        "docker.io/library/debian:12",
        "index.docker.io/debian:12",
        f"debian@{digest}",
        f"debian:whatever@{digest}",
        str(made.id),
        made.id.hex,
        made.id.short,
        made.id.hex[:1],
        f"sha256:{made.id.hex[:4]}",
    ):
        assert find(store, text) == made, text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("debian", "debian:latest"),
        ("debian:13", "debian:13"),
        ("ghcr.io/x/y", "ghcr.io/x/y:latest"),
        ("ffff", "ffff:latest"),
        ("UPPER", "UPPER"),
        ("sha256:" + "0" * 64, "sha256:" + "0" * 64),
        ("debian@sha256:" + "0" * 64, "debian@sha256:" + "0" * 64),
        ("", ""),
    ],
)
def test_what_is_missing_is_named_as_docker_names_it(store: Store, text: str, shown: str) -> None:
    image(store, "debian:12")
    with pytest.raises(ImageNotFound) as caught:
        find(store, text)
    assert str(caught.value) == f"No such image: {shown}"
    assert store.lookup.try_find(text) is None


def test_a_prefix_of_two_ids_is_ambiguous(store: Store) -> None:
    ids: dict[str, Digest] = {}
    for number in range(17):  # 17 ids share a first digit somewhere
        made = image(store, number=str(number))
        other = ids.setdefault(made.id.hex[0], made.id)
        if other != made.id:
            break
    with pytest.raises(AmbiguousImage) as caught:
        find(store, made.id.hex[0])
    assert set(caught.value.matches) == {other, made.id}
    assert find(store, made.id.hex) == made


def test_a_name_wins_over_an_id_that_starts_like_it(store: Store) -> None:
    one = image(store, number="1")
    two = image(store, f"{one.id.hex[:6]}:latest", number="2")
    assert find(store, one.id.hex[:6]) == two


def test_tags_move_and_the_old_image_stays(store: Store) -> None:
    # S17
    old = image(store, "app:1", "app:latest", number="1")
    new = image(store, "app:2", number="2")
    assert store.refs.tag(name("app:latest"), new.id) == old.id
    assert store.refs.tag(name("app:latest"), new.id) is None
    assert find(store, "app").id == new.id
    store.refs.untag(name("app:1"))
    left = store.images.get(old.id)
    assert left.dangling
    assert [str(each) for each in store.images.get(new.id).tags] == [
        "docker.io/library/app:2",
        "docker.io/library/app:latest",
    ]
    with pytest.raises(NameNotFound, match="No such image: app:1"):
        store.refs.untag(name("app:1"))
    with pytest.raises(ImageNotFound):
        store.refs.tag(name("x"), Digest.of(b"no image"))


def test_readers_see_the_old_tag_or_the_new_one(store: Store) -> None:
    # F17
    images = [image(store, number=str(number)).id for number in range(3)]
    store.refs.tag(name("app"), images[0])
    over = threading.Event()
    seen: set[Digest] = set()

    def read() -> None:
        while not over.is_set():
            seen.add(find(store, "app").id)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    writers = [
        threading.Thread(target=lambda each=each: [store.refs.tag(name("app"), each) for _ in range(10)])
        for each in images
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    over.set()
    for reader in readers:
        reader.join()
    assert seen <= set(images)
    assert seen
    assert store.db.check() == []


def test_manifests_come_back_byte_for_byte(store: Store) -> None:
    # decision 8: pull then push is byte-identical
    layers = [Served(LAYER)]
    made = pull(store, layers, "debian:12")
    manifest = manifest_of(config_of(layers), layers)
    assert b'" : ' in manifest.raw
    assert store.images.manifests(made.id) == [manifest]
    assert store.images.manifest(manifest.digest) == manifest
    assert store.images.image_of(manifest.digest) == made.id
    assert store.lookup.find("debian:12").target == manifest.digest
    assert store.images.config(made.id).raw == config_of(layers).raw


def index_of(*children: Descriptor) -> Index:
    raw = dumps(
        {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": [child.to_json() for child in children]}
    )
    made = parse_manifest(raw)
    assert isinstance(made, Index)
    return made


def test_a_name_can_point_at_an_index_that_is_here_in_part(store: Store) -> None:
    layers = [Served(LAYER)]
    config = config_of(layers)
    manifest = manifest_of(config, layers)
    absent = Descriptor.of(mediatype.OCI_MANIFEST, b"another platform")
    index = index_of(manifest.descriptor, absent)
    with store.lease("pull") as lease:
        store.unpacker.ensure([layer.source() for layer in layers], lease=lease)
        store.images.put_index(index, lease=lease)
        made = store.images.put(
            config,
            manifest=manifest,
            tags=[name("debian")],
            target=index.digest,
            digests=[(name("debian").repository, index.digest)],
            lease=lease,
        )
    store.collector.collect()
    found = store.lookup.find("debian")
    assert (found.image, found.target) == (made, index.digest)
    assert store.images.manifest(index.digest) == index
    assert find(store, f"debian@{index.digest}") == made
    assert store.images.image_of(index.digest) is None
    assert store.images.image_of(absent.digest) is None
    assert store.fsck.run().findings == ()
    store.removal.remove("debian")
    store.collector.collect()
    assert store.blobs.all() == []


def test_listing_needs_no_document(store: Store) -> None:
    made = image(store, "debian:12", "debian:latest", maintainer="us")
    for blob in store.blobs.all():
        store.driver.delete(blob.digest)  # F4: damage to one image's documents must not hide the list
    [listed] = store.images.all()
    assert listed == made
    assert listed.labels == {"maintainer": "us"}
    assert listed.created == "2020-01-01T00:00:00Z"
    assert listed.size == 1
    assert [each.tag for each in listed.tags] == ["12", "latest"]
    assert str(listed.platform) == "linux/amd64"


def test_an_image_must_fit_its_manifest(store: Store) -> None:
    layers = [Served(LAYER)]
    pull(store, layers)
    with pytest.raises(ImageMismatch, match="names config"):
        store.images.put(config_of(layers, other="config"), manifest=manifest_of(config_of(layers), layers))
    config = config_of(layers)
    with pytest.raises(ImageMismatch, match="2 layers there, 1 diffIDs here"):
        store.images.put(config, manifest=manifest_of(config, layers * 2))


def test_an_image_without_its_layers_is_refused(store: Store) -> None:
    with pytest.raises(LayerNotFound):
        store.images.put(config_of([Served(LAYER)]))
    assert store.images.all() == []


def test_an_image_may_have_no_layers(store: Store) -> None:
    made = store.images.put(config_of([]), tags=[name("scratch-like")])
    assert (made.chain_id, made.size) == (None, 0)
    assert store.images.snapshot(made.id) is None


def test_putting_an_image_again_changes_nothing(store: Store) -> None:
    assert image(store, "a") == image(store, "a")
    assert len(store.images.all()) == 1


def test_last_use_is_remembered(store: Store) -> None:
    # A2: prune by last use
    made = image(store)
    assert made.last_used_at == ""
    store.images.touch(made.id)
    assert store.images.get(made.id).last_used_at > made.added_at[:10]
