"""The local store at both ends: pulls that resume and share, pushes that keep digests or make blobs while sending."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lamina.errors import Integrity, NotFound, Unavailable
from lamina.image.copy import PULL, CopyOptions, copy
from lamina.image.partial import BlobImage, Child, MadeImage, MadeIndex, MadeLayer
from lamina.image.protocols import Readable, is_index
from lamina.image.validate import validate
from lamina.image.verify import VerifyingReader
from lamina.layer.compression import Compression
from lamina.progress import Progress
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.digest import Digest
from lamina.spec.manifest import make_manifest
from lamina.spec.reference import Reference
from lamina.store.packing import layer_diff_id
from lamina.store.store import Store
from lamina.testing.images import AMD64, ARM64, attestation_of, layer_of, random_image, random_index
from lamina.transports.layout import Layout
from lamina.transports.local.sink import LocalSink, NotAnImage
from lamina.transports.local.source import open_image, open_manifest
from lamina.transports.remote.client import Client
from lamina.transports.remote.sink import open_sink
from lamina.transports.remote.source import open_remote

NAME = Reference.parse("registry.example/app:1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store"), driver="vfs") as store:
        yield store


def pull(store: Store, content: object, name: Reference = NAME, options: CopyOptions | None = None) -> list[Progress]:
    seen: list[Progress] = []
    with store.lease("pull") as lease:
        sink = LocalSink(store, lease, names=[name], pulled_as=name, platform=AMD64)
        copy(content, sink, options or CopyOptions(words=PULL), report=seen.append)  # type: ignore[arg-type]
    return seen


def built(store: Store, size: int = 100_000) -> Digest:
    """An image as the builder leaves it: snapshots, layers and config, no blob, no manifest."""
    with store.lease("build") as lease:
        store.snapshots.prepare("step", lease=lease)
        with store.snapshots.mounted("step") as root:
            Path(root, "file").write_bytes(os.urandom(size))
            Path(root, "dir").mkdir()
        store.snapshots.commit("step", "done", lease=lease)
        diff_id, _ = layer_diff_id(store.snapshots.changes("done"))
        store.layers.register([diff_id], "done")
        config = ImageConfig.make(platform=AMD64, config=RunConfig(cmd=("/x",)), diff_ids=(diff_id,))
        return store.images.put(config, tags=[NAME], lease=lease).id


def test_a_pulled_image_is_named_unpacked_and_the_same_bytes(store: Store, tmp_path: Path) -> None:  # S14, decision 8
    image = random_image(1)
    words = [event.status for event in pull(store, image)]
    assert {"Pulling fs layer", "Download complete", "Pull complete"} <= set(words)
    found = store.lookup.find("registry.example/app:1")
    assert (found.image.id, found.target) == (image.config.id, image.manifest.digest)
    assert [str(name) for name in found.image.digests] == [f"registry.example/app@{image.manifest.digest}"]
    again = open_image(store, found.image.id, target=found.target)
    assert again.manifest.raw == image.manifest.raw
    validate(again)
    put = copy(again, Layout.create(str(tmp_path / "out")).sink("x"))
    assert put.digest == image.manifest.digest


def test_a_second_pull_fetches_nothing(store: Store) -> None:  # S03
    pull(store, random_image(1))
    words = [event.status for event in pull(store, random_image(1), Reference.parse("registry.example/other:2"))]
    assert words.count("Already exists") == 2
    assert "Downloading" not in words


def test_one_platform_of_an_index_keeps_the_index(store: Store) -> None:  # A22
    index = random_index(1)
    pull(store, index, options=CopyOptions(platform=ARM64, keep_index=True, words=PULL))
    found = store.lookup.find(str(NAME))
    assert (found.target, found.image.platform) == (index.index.digest, ARM64)
    content = open_manifest(store, index.index.digest)
    assert is_index(content)
    validate(content, sparse=True)
    with pytest.raises(NotFound):
        content.child(index.index.manifests[0])


def test_all_platforms_can_be_pulled(store: Store, tmp_path: Path) -> None:  # A22
    index = random_index(1, [ARM64, AMD64])
    pull(store, index)
    found = store.lookup.find(str(NAME))
    assert found.image.platform == AMD64
    content = open_manifest(store, index.index.digest)
    validate(content)
    assert copy(content, Layout.create(str(tmp_path / "l")).sink("x")).digest == index.index.digest


@pytest.mark.parametrize("flaw", ["blob", "diff_id"])
def test_wrong_content_leaves_the_store_as_it_was(store: Store, flaw: str) -> None:  # threat 10
    layer, other = layer_of([("a", b"1")]), layer_of([("a", b"2")])
    if flaw == "blob":
        bad = MadeLayer(layer.descriptor, layer.diff_id, other.open_raw)
    else:
        bad = MadeLayer(layer.descriptor, other.diff_id, layer.open_raw)
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(bad.diff_id,))
    with pytest.raises(Integrity):
        pull(store, MadeImage(config, [bad]))
    assert store.images.all() == []
    assert store.refs.all() == []


class Cut:
    """A layer whose source dies in the middle, once; remembers where it was asked to begin."""

    def __init__(self, layer: MadeLayer) -> None:
        self.descriptor, self.diff_id, self.raw = layer.descriptor, layer.diff_id, layer.open().read()
        self.offsets: list[int] = []
        self.fail = True

    def open(self) -> Readable:
        return VerifyingReader(self.open_at(0), self.descriptor)

    def open_at(self, offset: int) -> Readable:
        self.offsets.append(offset)
        if not self.fail:
            return io.BytesIO(self.raw[offset:])
        raw = io.BytesIO(self.raw[offset : len(self.raw) // 2])

        class Dying(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                data = raw.read(size)
                if not data:
                    raise Unavailable("cable cut")
                return data

        return Dying()


def test_a_pull_goes_on_where_the_last_one_died(store: Store) -> None:  # A10
    layer = Cut(layer_of([("big", os.urandom(300_000))]))
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,))
    image = MadeImage(config, [layer])
    with pytest.raises(Unavailable, match="cable cut"):
        pull(store, image)
    assert store.images.all() == []
    layer.fail = False
    pull(store, image)
    assert layer.offsets == [0, len(layer.raw) // 2]
    validate(open_image(store, image.config.id))


def test_two_pulls_of_one_image_fetch_it_once(store: Store) -> None:  # F8
    fetched = []
    lock = threading.Lock()

    def counting(layer: MadeLayer) -> MadeLayer:
        def open_raw() -> Readable:
            with lock:
                fetched.append(layer.descriptor.digest)
            return layer.open_raw()

        return MadeLayer(layer.descriptor, layer.diff_id, open_raw)

    image = random_image(1, layers=3, size=200_000)
    same = MadeImage(image.config, [counting(layer) for layer in image.layers])  # type: ignore[arg-type]
    names = [Reference.parse(f"registry.example/app:{number}") for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: pull(store, same, name), names))
    assert sorted(fetched) == sorted(layer.descriptor.digest for layer in image.layers)
    assert len(store.refs.all()) == 6


def test_what_was_built_is_compressed_once_and_keeps_its_digest(store: Store, tmp_path: Path) -> None:
    image_id = built(store)
    layout = Layout.create(str(tmp_path / "out"))
    first = copy(open_image(store, image_id), layout.sink("a"))
    validate(layout.image("a"))
    again = open_image(store, image_id)
    assert not any(layer.is_pending() for layer in again.layers if hasattr(layer, "is_pending"))
    assert copy(again, layout.sink("b")).digest == first.digest


def test_the_same_content_makes_the_same_blob_in_every_store(store: Store, tmp_path: Path) -> None:  # A17
    image = random_image(1)
    digests = set()
    for number in range(2):
        with Store.open(str(tmp_path / f"s{number}"), driver="vfs") as other:
            pull(other, image)
            raw = list(open_image(other, image.config.id).layers)
            other.blobs.forget([layer.descriptor.digest for layer in raw])
            remade = open_image(other, image.config.id, compression=Compression.GZIP)
            digests.add(tuple(layer.descriptor.digest for layer in remade.layers))
    assert len(digests) == 1


def test_an_artifact_is_no_image(store: Store) -> None:
    image = random_image(1)
    manifest = make_manifest(
        image.manifest.config, image.manifest.layers, artifact_type="application/vnd.example", annotations={}
    )
    odd = make_manifest(
        type(image.manifest.config)(
            "application/vnd.oci.empty.v1+json", image.manifest.config.digest, image.manifest.config.size
        ),
        manifest.layers,
    )

    class Artifact(MadeImage):
        manifest = odd

    with pytest.raises(NotAnImage):
        pull(store, Artifact(image.config, image.layers))
    assert store.images.all() == []


def test_attestations_stay_with_their_index(
    store: Store, docker_registry: str, client: Client, tmp_path: Path
) -> None:  # A22, S47: indexes are first-class, what goes out is what came in
    images = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
    index = MadeIndex([*(Child(image) for image in images), *(attestation_of(image) for image in images)])
    pull(store, index)
    found = store.lookup.find(NAME.familiar)
    assert found.target == index.index.digest
    assert len(store.images.all()) == 2  # they are no images
    store.leases.close()
    assert store.collector.collect().blobs == 0
    assert store.fsck.run().findings == ()
    assert store.images.complete(index.index.digest)
    name = Reference.parse(f"{docker_registry}/attested:1")
    put = copy(open_manifest(store, index.index.digest), open_sink(client, name))
    assert put.digest == index.index.digest
    remote = open_remote(client, name)
    assert is_index(remote)
    for child in index.index.manifests:
        assert read(remote.child(child)) == read(index.child(child))
    # a lost index brings them back, the last name takes them along
    os.unlink(store.paths.database)
    with Store.open(store.root) as again:
        assert again.images.complete(index.index.digest)
        assert again.lookup.find(NAME.familiar).target == index.index.digest
        again.removal.remove(NAME.familiar)
        again.collector.collect()
        assert again.blobs.all() == []


def read(image: object) -> list[bytes]:
    assert isinstance(image, BlobImage | MadeImage)
    return [image.manifest.raw, *(layer.open().read(1 << 20) for layer in image.layers)]


def test_a_built_image_is_compressed_while_it_is_pushed(store: Store, docker_registry: str, client: Client) -> None:
    image_id = built(store, 3_000_000)
    seen: list[Progress] = []
    name = Reference.parse(f"{docker_registry}/built/app:1")
    put = copy(open_image(store, image_id), open_sink(client, name), report=seen.append)
    statuses = [event.status for event in seen]
    assert statuses[0] == "Preparing"
    assert statuses[-1] == "Pushed"
    assert "Pushing" in statuses
    remote = open_remote(client, name)
    assert not is_index(remote)
    assert remote.manifest.digest == put.digest
    validate(remote)
    second: list[Progress] = []
    assert copy(open_image(store, image_id), open_sink(client, name), report=second.append).digest == put.digest
    assert [event.status for event in second] == ["Preparing", "Layer already exists"]


def test_pull_then_push_is_byte_identical(
    store: Store, docker_registry: str, client: Client
) -> None:  # decision 8, S47
    for number, docker in ((1, False), (2, True)):
        image = random_image(number, docker=docker)
        name = Reference.parse(f"{docker_registry}/there/x:{number}")
        copy(image, open_sink(client, name))
        pull(store, open_remote(client, name), name)
        back = Reference.parse(f"{docker_registry}/back/x:{number}")
        found = store.lookup.find(str(name))
        put = copy(open_image(store, found.image.id, target=found.target), open_sink(client, back))
        assert put.digest == image.manifest.digest


@pytest.mark.parametrize("kind", [mediatype.OCI_LAYER, mediatype.DOCKER_LAYER])
def test_uncompressed_layers_are_pulled_too(store: Store, kind: str) -> None:
    layer = layer_of([("f", b"x")], media_type=kind)
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,))
    pull(store, MadeImage(config, [layer]))
    validate(open_image(store, config.id))


def test_the_platforms_of_an_index_stay_and_go_with_its_name(store: Store) -> None:  # S43, S44, A22
    other = random_image(7)
    pull(store, random_index(1))
    pull(store, other, Reference.parse("other:1"))
    images = store.images.all()
    assert [image.dangling for image in images] == [False] * 3
    assert sorted(image.indexed for image in images) == [True, True, True]
    store.leases.close()
    assert store.removal.prune(images) == []  # `image prune` keeps what is not dangling, whoever asks for it
    removed = [str(line) for line in store.removal.remove(NAME.familiar)]
    assert sum(line.startswith("Deleted: ") for line in removed) == 2 + 4  # both images, and their layers
    assert [image.id for image in store.images.all()] == [other.config.id]
    assert store.collector.collect().blobs > 0
    assert store.fsck.run().findings == ()


def test_a_platform_that_something_else_needs_stays(store: Store) -> None:
    index = random_index(1)
    amd64, arm64 = (index.child(child) for child in index.index.manifests)
    assert isinstance(arm64, MadeImage)
    pull(store, index)
    store.refs.tag(Reference.parse("mine:arm"), arm64.config.id)
    store.removal.remove(NAME.familiar)
    assert [image.id for image in store.images.all()] == [arm64.config.id]
    # so does all of an index that has another name
    pull(store, index)
    store.refs.tag(Reference.parse("twice:1"), amd64.config.id, target=index.index.digest)  # type: ignore[union-attr]
    store.removal.remove("mine:arm")
    store.removal.remove(NAME.familiar)
    assert len(store.images.all()) == 2
    store.removal.remove("twice:1")
    assert store.images.all() == []
