"""The copy planner: order, negotiation, parallelism, limits, cancellation (design.md section 3; threat 13)."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from lamina.errors import Cancelled, Integrity, LimitExceeded, NotFound, Unavailable
from lamina.image.copy import PULL, CopyOptions, NeedsPlatform, TypeNotAccepted, copy
from lamina.image.partial import BlobIndex, Child, MadeImage, MadeIndex, MadeLayer
from lamina.image.protocols import Capabilities, Image, ImageIndex, MissingChild, Readable, is_index
from lamina.image.validate import validate
from lamina.image.verify import VerifyingReader
from lamina.progress import Progress, ProgressSink
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest, make_index, make_manifest
from lamina.spec.platform import Platform
from lamina.spec.reference import Repository
from lamina.testing.images import AMD64, ARM64, layer_of, random_image, random_index, random_layer

ALL = mediatype.MANIFESTS | mediatype.INDEXES


class MemorySink:
    """A sink that keeps everything, and the order in which it came."""

    def __init__(self, accepts: frozenset[str] = ALL, *, indexes: bool = True, foreign: bool = False) -> None:
        self.capabilities = Capabilities(accepts, indexes, foreign, parallel_blobs=3)
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[Digest, Manifest | Index] = {}
        self.order: list[Digest] = []
        self.named: list[Digest] = []
        self.elsewhere: dict[Repository, dict[Digest, bytes]] = {}

    def has_blob(self, blob: Descriptor) -> bool:
        return blob.digest in self.blobs

    def mount_blob(self, blob: Descriptor, source: Repository) -> bool:
        if blob.digest not in self.elsewhere.get(source, {}):
            return False
        self.blobs[blob.digest] = self.elsewhere[source][blob.digest]
        return True

    def put_blob(self, blob: Descriptor, open_: Callable[[], Readable], report: ProgressSink) -> None:
        stream = VerifyingReader(open_(), blob)
        try:
            data = b"".join(iter(lambda: stream.read(700), b""))
        finally:
            stream.close()
        report(Progress("", "Pushing", len(data), blob.size))
        self.blobs[blob.digest] = data
        self.order.append(blob.digest)

    def put_manifest(self, manifest: Manifest | Index, *, named: bool) -> None:
        parts = manifest.manifests if isinstance(manifest, Index) else manifest.blobs()
        held = self.manifests if isinstance(manifest, Index) else self.blobs
        self.missing = [part.digest for part in parts if part.digest not in held]
        self.manifests[manifest.digest] = manifest
        self.order.append(manifest.digest)
        if named:
            self.named.append(manifest.digest)


def test_blobs_come_before_manifests_and_the_name_last() -> None:
    index, sink = random_index(1), MemorySink()
    put = copy(index, sink)
    assert put.digest == sink.order[-1] == index.index.digest
    assert sink.named == [index.index.digest]
    assert sink.missing == []
    kinds = [digest in sink.manifests for digest in sink.order]
    assert kinds == sorted(kinds)


def test_what_is_there_is_not_sent_again() -> None:
    sink, events = MemorySink(), list[Progress]()
    copy(random_image(1), sink)
    sent = len(sink.order)
    copy(random_image(1), sink, report=events.append)
    assert len(sink.order) == sent + 1
    assert [event.status for event in events if event.final] == ["Layer already exists"] * 2


def test_blobs_are_mounted_from_where_they_are_known() -> None:
    sink, events, image = MemorySink(), list[Progress](), random_image(1)
    there, nowhere = Repository("r.example", "there/x"), Repository("r.example", "not")
    sink.elsewhere[there] = {image.layers[0].descriptor.digest: image.layers[0].open().read()}
    copy(image, sink, CopyOptions(mount_sources=lambda _blob: [nowhere, there]), report=events.append)
    assert [event.status for event in events if event.final].count("Mounted from there/x") == 1


def test_progress_speaks_docker() -> None:  # S14, S47
    image = random_image(1, layers=5)
    push, pull = list[Progress](), list[Progress]()
    copy(image, MemorySink(), report=push.append)
    copy(image, MemorySink(), CopyOptions(words=PULL), report=pull.append)
    assert [event.status for event in push[:5]] == ["Preparing"] * 3 + ["Preparing", "Waiting"]
    assert {event.status for event in push} == {"Preparing", "Waiting", "Pushing", "Pushed"}
    assert {event.status for event in pull} >= {"Pulling fs layer", "Waiting", "Pull complete"}
    assert {event.id for event in push} == {layer.diff_id.short for layer in image.layers}
    assert {event.id for event in pull} == {layer.descriptor.digest.short for layer in image.layers}


def test_a_shared_blob_travels_once() -> None:
    layer = random_layer(1)
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,) * 3)
    sink = MemorySink()
    copy(MadeImage(config, [layer] * 3), sink)
    assert sink.order.count(layer.descriptor.digest) == 1


# --- negotiation --------------------------------------------------------------------------------------------------------


def test_types_are_converted_for_sinks_that_take_only_others() -> None:
    for docker in (False, True):
        kind = mediatype.OCI_MANIFEST if docker else mediatype.DOCKER_MANIFEST
        listed = mediatype.OCI_INDEX if docker else mediatype.DOCKER_INDEX
        sink = MemorySink(frozenset({kind, listed}))
        copy(random_index(1, docker=docker), sink)
        assert {manifest.media_type for manifest in sink.manifests.values()} == {kind, listed}
        assert sink.missing == []
        with pytest.raises(TypeNotAccepted):
            copy(random_image(1, docker=docker), sink, CopyOptions(preserve_digests=True))


def test_an_index_needs_a_platform_where_only_images_fit() -> None:
    with pytest.raises(NeedsPlatform) as raised:
        copy(random_index(1), MemorySink(indexes=False))
    assert raised.value.platforms == (AMD64, ARM64)
    sink = MemorySink(indexes=False)
    copy(random_index(1), sink, CopyOptions(platform=ARM64))
    copy(random_index(1, [AMD64]), sink)
    assert all(isinstance(manifest, Manifest) for manifest in sink.manifests.values())


def test_one_platform_may_keep_its_index() -> None:  # A22
    index, sink = random_index(1), MemorySink()
    put = copy(index, sink, CopyOptions(platform=ARM64, keep_index=True))
    assert put.digest == index.index.digest == sink.named[0]
    assert len(sink.manifests) == 2


def test_a_missing_platform_lists_what_there_is() -> None:  # B18
    with pytest.raises(NotFound) as raised:
        copy(random_index(1), MemorySink(), CopyOptions(platform=Platform("linux", "s390x")))
    assert raised.value.hint == "the index offers linux/amd64, linux/arm64"


def test_attestations_are_never_chosen() -> None:  # B16
    attestation = Child(
        random_image(9), Platform("unknown", "unknown"), {"vnd.docker.reference.type": "attestation-manifest"}
    )
    index = MadeIndex([attestation, Child(random_image(1))])
    sink = MemorySink()
    copy(index, sink, CopyOptions(platform=AMD64))
    assert sink.named == [random_image(1).manifest.digest]
    everything = MemorySink()
    copy(index, everything)
    assert len(everything.manifests) == 3


class Sparse:
    """An index whose children are elsewhere."""

    index = random_index(1).index

    def child(self, descriptor: Descriptor) -> Image | ImageIndex:
        raise MissingChild(descriptor)


def test_sparse_indexes_fail_or_stay_sparse() -> None:
    with pytest.raises(MissingChild):
        copy(Sparse(), MemorySink())
    sink = MemorySink()
    assert copy(Sparse(), sink, CopyOptions(missing="skip")).digest == Sparse.index.digest


def test_foreign_layers_are_left_where_they_are() -> None:
    layer = layer_of([("f", b"x")])
    far = replace(
        layer,
        descriptor=replace(layer.descriptor, media_type=mediatype.OCI_FOREIGN_LAYER_GZIP, urls=("https://x.example/",)),
    )
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,))
    for foreign in (False, True):
        sink = MemorySink(foreign=foreign)
        copy(MadeImage(config, [far]), sink)
        assert (layer.descriptor.digest in sink.blobs) == foreign


def test_artifacts_travel_although_their_config_is_none() -> None:
    raw = b"[not an image config]"
    layer = random_layer(1)
    blob = make_manifest(
        Descriptor.of("application/vnd.example", raw), [layer.descriptor], artifact_type="application/vnd.example"
    )

    class Artifact(MadeImage):
        manifest = blob
        config_bytes = raw

    sink = MemorySink()
    copy(Artifact(random_image(1).config, [layer]), sink)
    assert sink.blobs[blob.config.digest] == raw


# --- threat 13 ----------------------------------------------------------------------------------------------------------


class Doubling:
    """Indexes that each name the next one twice, `levels` deep."""

    def __init__(self, levels: int) -> None:
        self.documents: dict[Digest, bytes] = {}
        entry = random_image(1).manifest.descriptor
        self.documents[entry.digest] = random_image(1).manifest.raw
        for _ in range(levels):
            index = make_index([entry, entry])
            self.documents[index.digest] = index.raw
            entry = index.descriptor
        self.top = BlobIndex(index, self)

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Readable:
        image = random_image(1)
        known = {image.config.id: image.config.raw} | {
            layer.descriptor.digest: layer.open().read() for layer in image.layers
        }
        return io.BytesIO(known[blob.digest][offset:])

    def read_manifest(self, child: Descriptor) -> bytes:
        return self.documents[child.digest]


def test_doubled_indexes_are_walked_once_and_deep_ones_refused() -> None:
    sink = MemorySink()
    copy(Doubling(6).top, sink)
    assert len(sink.manifests) == 7
    started = time.monotonic()
    with pytest.raises(LimitExceeded):
        copy(Doubling(40).top, MemorySink())
    with pytest.raises(LimitExceeded):
        copy(Doubling(40).top, MemorySink(), CopyOptions(platform=AMD64))
    assert time.monotonic() - started < 60  # 2^40 steps would take years


# --- failure and cancellation --------------------------------------------------------------------------------------------


def breaking(error: Exception) -> MadeImage:
    class Broken:
        def read(self, _size: int = -1, /) -> bytes:
            raise error

        def close(self) -> None: ...

    good = [random_layer(number) for number in range(4)]
    bad = MadeLayer(good[1].descriptor, good[1].diff_id, Broken)
    layers = [good[0], bad, *good[2:]]
    return MadeImage(
        ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=tuple(layer.diff_id for layer in layers)), layers
    )


def test_nothing_is_named_after_a_failure() -> None:
    sink = MemorySink()
    with pytest.raises(Unavailable, match="cable cut"):
        copy(breaking(Unavailable("cable cut")), sink)
    assert sink.manifests == {}


def test_wrong_bytes_name_nothing() -> None:  # threat 10
    layer, other = random_layer(1), random_layer(2)
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,))
    sink = MemorySink()
    with pytest.raises(Integrity):
        copy(MadeImage(config, [MadeLayer(layer.descriptor, layer.diff_id, other.open_raw)]), sink)
    assert (sink.manifests, sink.blobs.get(layer.descriptor.digest)) == ({}, None)


def test_a_copy_is_cancelled_between_two_reads() -> None:
    cancel, sink = threading.Event(), MemorySink()

    class Endless:
        def read(self, size: int = -1, /) -> bytes:
            cancel.set()
            return bytes(max(size, 1))

        def close(self) -> None: ...

    layer = MadeLayer(Descriptor(mediatype.OCI_LAYER_GZIP, Digest.of(b""), 1 << 50), Digest.of(b""), Endless)
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id,))
    with pytest.raises(Cancelled):
        copy(MadeImage(config, [layer]), sink, cancel=cancel)
    assert sink.manifests == {}


class Pending:
    """A layer that is made while it is read."""

    def __init__(self) -> None:
        self.made = random_layer(7)
        self.diff_id = self.made.diff_id
        self.done = False
        self.streams = 0

    def is_pending(self) -> bool:
        return not self.done

    @property
    def descriptor(self) -> Descriptor:
        self.done = True
        return self.made.descriptor

    def open(self) -> Readable:
        return self.made.open()

    def stream(self) -> Readable:
        self.streams += 1
        outer, inner = self, self.made.open_raw()

        class Making:
            def read(self, size: int = -1, /) -> bytes:
                data = inner.read(size)
                outer.done = outer.done or not data
                return data

            def close(self) -> None: ...

        return Making()


class StreamingSink(MemorySink):
    """Takes blobs that have no digest yet."""

    def put_stream(self, open_: Callable[[], Readable], report: ProgressSink) -> Descriptor:
        stream = open_()
        data = b"".join(iter(lambda: stream.read(100), b""))
        report(Progress("", "Pushing", len(data)))
        self.blobs[Digest.of(data)] = data
        return Descriptor.of(mediatype.OCTET_STREAM, data)


@pytest.mark.parametrize("sink", [StreamingSink(), MemorySink()], ids=["streaming", "plain"])
def test_pending_layers_are_streamed_where_the_sink_can(sink: MemorySink) -> None:
    layer = Pending()
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(layer.diff_id, random_layer(8).diff_id))
    image = MadeImage(config, [layer, random_layer(8)])
    copy(image, sink)
    assert sink.missing == []
    assert layer.streams == isinstance(sink, StreamingSink)
    assert sink.named == [image.manifest.digest]
    validate(image)


def test_kinds_are_told_apart_without_touching_lazy_members() -> None:
    class Explosive(MadeImage):
        @property
        def manifest(self) -> Manifest:
            raise AssertionError("touched")

    assert not is_index(Explosive(random_image(1).config, []))
    assert is_index(random_index(1))
