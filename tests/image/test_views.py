"""Views and invariants: mutate, partial, validate, verify."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Integrity, Invalid, LimitExceeded, NotFound
from lamina.image.mutate import (
    InconvertibleType,
    annotate_image,
    annotate_index,
    append_layers,
    attestations_for,
    choose,
    convert,
    keep_children,
    select_platform,
    with_config,
)
from lamina.image.partial import BlobImage, Child, MadeImage, MadeIndex, MadeLayer, open_document
from lamina.image.protocols import MissingChild, Readable, descriptor_of, is_index
from lamina.image.validate import InvalidImage, validate
from lamina.image.verify import DigestMismatch, SizeMismatch, VerifyingReader, read_document
from lamina.spec import mediatype
from lamina.spec.config import History
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import make_manifest, parse_manifest
from lamina.spec.platform import Platform
from lamina.testing.images import AMD64, ARM64, layer_of, random_image, random_index, random_layer

platforms = st.sampled_from([AMD64, ARM64, Platform("linux", "arm", "v7"), Platform("windows", "amd64")])


# --- verify -------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=3000), st.lists(st.integers(1, 900), min_size=1, max_size=20))
def test_right_bytes_pass_however_they_are_read(data: bytes, sizes: list[int]) -> None:
    reader = VerifyingReader(io.BytesIO(data), Descriptor.of("x", data))
    got = b"".join(reader.read(size) for size in sizes) + reader.read()
    assert got == data
    assert reader.read(1) == b""


@given(st.binary(max_size=500), st.binary(max_size=500), st.integers(1, 400))
def test_other_bytes_never_pass(wanted: bytes, given_: bytes, step: int) -> None:
    reader = VerifyingReader(io.BytesIO(given_), Descriptor.of("x", wanted))
    if wanted == given_:
        return
    with pytest.raises(Integrity):
        while reader.read(step):
            pass


def test_the_last_bytes_are_held_back_until_the_digest_is_right() -> None:
    reader = VerifyingReader(io.BytesIO(b"abcx"), Descriptor.of("x", b"abcd"))
    assert reader.read(3) == b"abc"
    with pytest.raises(DigestMismatch):
        reader.read(1)


def test_documents_are_bounded_before_they_are_read() -> None:  # threat 14
    with pytest.raises(LimitExceeded):
        read_document(io.BytesIO(b""), Descriptor("x", Digest.of(b""), 1 << 40), "config", limit=1000)
    with pytest.raises(SizeMismatch):
        read_document(io.BytesIO(b"abc"), Descriptor.of("x", b"ab"), "config", limit=1000)


# --- mutate -------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 99), layers=st.integers(0, 3), docker=st.booleans(), platform=platforms)
def test_converting_there_and_back_gives_the_same_bytes(
    seed: int, layers: int, docker: bool, platform: Platform
) -> None:
    image = random_image(seed, layers=layers, size=50, docker=docker, platform=platform)
    there = convert(image, docker=not docker)
    assert not is_index(there)
    validate(there)
    assert there.manifest.is_docker is not docker
    assert there.manifest.config.digest == image.manifest.config.digest
    back = convert(there, docker=docker)
    assert not is_index(back)
    assert back.manifest.raw == image.manifest.raw
    assert convert(image, docker=docker) is image


@given(
    seed=st.integers(0, 99),
    added=st.integers(1, 3),
    notes=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
)
def test_edits_make_valid_images_whose_manifests_parse_back(seed: int, added: int, notes: dict[str, str]) -> None:
    image = random_image(seed, layers=1, size=50)
    more = append_layers(image, [random_layer(number, 60) for number in range(added)])
    noted = annotate_image(more, notes)
    validate(noted)
    assert len(noted.layers) == 1 + added
    parsed = parse_manifest(noted.manifest.raw)
    assert parsed == noted.manifest
    assert dict(parsed.annotations) == notes
    assert noted.config.history[-1].comment == "lamina"


def test_appended_history_is_the_callers_when_given() -> None:
    entries = [History(created_by="RUN x"), History(created_by="ENV y", empty_layer=True)]
    more = append_layers(random_image(1), [random_layer(9)], entries)
    validate(more)
    assert more.config.history[-2:] == tuple(entries)


def test_another_config_is_another_image() -> None:
    image = random_image(1)
    changed = with_config(image, image.config.with_config(user="nobody"))
    validate(changed)
    assert changed.config.id != image.config.id
    assert changed.manifest.layers == image.manifest.layers
    with pytest.raises(InvalidImage):
        validate(with_config(image, image.config.edit(diff_ids=())))


def test_indexes_are_converted_with_their_children() -> None:
    there = convert(random_index(1), docker=True)
    validate(there)
    back = convert(there, docker=False)
    validate(back)
    assert is_index(back)
    assert back.index.raw == random_index(1).index.raw
    with pytest.raises(MissingChild):
        random_index(1).child(random_image(50).manifest.descriptor)


def test_artifacts_are_not_converted() -> None:
    class Artifact(MadeImage):
        manifest = make_manifest(random_image(1).manifest.config, [], artifact_type="application/vnd.example")

    with pytest.raises(InconvertibleType):
        _ = descriptor_of(convert(Artifact(random_image(1).config, []), docker=True))


def test_index_annotations_and_choice() -> None:
    index = random_index(1)
    noted = annotate_index(index, {"a": "b"})
    assert dict(noted.index.annotations) == {"a": "b"}
    validate(noted)
    arm = choose(index, ARM64)
    kept = keep_children(index, [arm.digest])
    assert [entry.platform for entry in kept.index.manifests] == [ARM64]
    validate(kept)
    assert select_platform(index, AMD64).config.platform == AMD64
    image = random_image(3)
    assert select_platform(image, ARM64) is image


def test_variants_are_chosen_as_containerd_does() -> None:  # B18
    v6, v7 = Platform("linux", "arm", "v6"), Platform("linux", "arm", "v7")
    index = random_index(1, [v6, v7, ARM64])
    assert select_platform(index, v7).config.platform == v7
    assert select_platform(index, Platform("linux", "arm64", "v8")).config.platform == ARM64
    with pytest.raises(NotFound):
        select_platform(index, Platform("linux", "arm", "v5"))


def test_attestations_are_found_by_their_image() -> None:  # B16
    image = random_image(1)
    notes = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(image.manifest.digest),
    }
    index = MadeIndex([Child(image), Child(random_image(2), Platform("unknown", "unknown"), notes)])
    assert [entry.digest for entry in attestations_for(index, image.manifest.digest)] == [
        random_image(2).manifest.digest
    ]


# --- partial and validate -----------------------------------------------------------------------------------------------


class Memory:
    """A `BlobSource` over a dictionary."""

    def __init__(self, blobs: dict[Digest, bytes]) -> None:
        self.blobs = blobs

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Readable:
        if blob.digest not in self.blobs:
            raise MissingChild(blob)
        return io.BytesIO(self.blobs[blob.digest][offset:])

    def read_manifest(self, child: Descriptor) -> bytes:
        return self.open_blob(child).read()


def stored(image: MadeImage) -> Memory:
    blobs = {image.config.id: image.config.raw, image.manifest.digest: image.manifest.raw}
    return Memory(blobs | {layer.descriptor.digest: layer.open().read() for layer in image.layers})


def test_two_methods_make_a_whole_image() -> None:
    image = random_image(1)
    found = open_document(image.manifest.raw, image.manifest.media_type, stored(image))
    assert isinstance(found, BlobImage)
    validate(found)
    layer = found.layers[0]
    assert layer.open_at(10).read() == layer.open().read()[10:]  # type: ignore[attr-defined]


def test_every_flaw_is_reported_at_once() -> None:
    image = random_image(1, layers=3)
    memory = stored(image)
    first, second, third = (layer.descriptor.digest for layer in image.layers)
    memory.blobs[first] = memory.blobs[first][:-1]
    memory.blobs[second] = memory.blobs[third]
    del memory.blobs[third]
    with pytest.raises(InvalidImage) as raised:
        validate(open_document(image.manifest.raw, None, memory))
    assert [problem.where for problem in raised.value.problems] == ["layer 0", "layer 1", "layer 2"]


def test_a_wrong_diff_id_is_found_in_the_content() -> None:
    layer, other = layer_of([("a", b"1")]), layer_of([("a", b"2")])
    lying = MadeLayer(layer.descriptor, other.diff_id, layer.open_raw)
    image = append_layers(random_image(1), [lying])
    validate(image, layers=False)
    with pytest.raises(InvalidImage, match="its diffID is"):
        validate(image)


def test_history_must_line_up_with_layers() -> None:
    image = random_image(1)
    short = with_config(image, image.config.edit(history=image.config.history[1:]))
    with pytest.raises(InvalidImage, match="1 history entries with a layer for 2 layers"):
        validate(short)


def test_layers_and_diff_ids_must_pair() -> None:
    image = random_image(1)
    document = json.loads(image.manifest.raw)
    document["layers"] = document["layers"][:1]
    raw = json.dumps(document).encode()
    found = open_document(raw, None, stored(image))
    with pytest.raises(InvalidImage):
        validate(found)
    with pytest.raises(Invalid, match="the manifest lists 1 layers, the config 2 diff_ids"):
        _ = found.layers[0].diff_id  # type: ignore[union-attr]


def test_index_entries_must_tell_the_truth() -> None:
    index = MadeIndex([Child(random_image(1, platform=AMD64), ARM64)])
    with pytest.raises(InvalidImage, match=r"index entry 0: platform is linux/arm64, the config says linux/amd64"):
        validate(index)


def test_a_child_answered_with_other_bytes_is_refused() -> None:
    image, other = random_image(1), random_image(2)
    index = MadeIndex([Child(image)])
    memory = Memory({image.manifest.digest: other.manifest.raw})
    found = open_document(index.index.raw, mediatype.OCI_INDEX, memory)
    assert is_index(found)
    with pytest.raises(Integrity):
        found.child(index.index.manifests[0])
    with pytest.raises(InvalidImage):
        validate(found, sparse=True)
    small = replace(index.index.manifests[0], size=5)
    with pytest.raises(Integrity):
        found.child(small)
