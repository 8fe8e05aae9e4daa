"""Manifests and indexes: read as the specifications say, kept to the byte, never ambiguous."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import Invalid, LimitExceeded, Unsupported
from lamina.spec import mediatype
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.document import dumps
from lamina.spec.manifest import (
    MAX_CHILDREN,
    MAX_LAYERS,
    Index,
    InvalidDocument,
    Manifest,
    UnsupportedManifest,
    is_attestation,
    make_index,
    make_manifest,
    parse_manifest,
)
from lamina.spec.platform import Platform


def _descriptor(text: str = "x", media_type: str = mediatype.OCI_LAYER_GZIP) -> dict[str, Any]:
    return Descriptor.of(media_type, text.encode()).to_json()


def test_oci_example(document):
    raw = document("oci-manifest")
    manifest = parse_manifest(raw, mediatype.OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert manifest.raw is raw
    assert not manifest.is_docker
    assert manifest.config.media_type == mediatype.OCI_CONFIG
    assert [layer.size for layer in manifest.layers] == [31250, 15873, 70021]
    assert [mediatype.layer_compression(layer.media_type) for layer in manifest.layers] == ["gzip", "gzip", "zstd"]
    assert manifest.blobs() == (manifest.config, *manifest.layers)
    assert dict(manifest.annotations) == {"org.example.first": "one", "org.example.second": "two"}
    assert manifest.descriptor == Descriptor(mediatype.OCI_MANIFEST, Digest.of(raw), len(raw))
    assert manifest.digest == Digest.of(raw)


def test_artifact_with_subject_and_embedded_data(document):
    manifest = parse_manifest(document("oci-manifest-subject"))
    assert isinstance(manifest, Manifest)
    assert manifest.artifact_type == "application/vnd.example.sbom"
    assert manifest.config.media_type == mediatype.OCI_EMPTY
    assert manifest.config.data == "e30="
    assert manifest.subject is not None
    assert manifest.subject.size == 731
    assert manifest.descriptor.artifact_type == manifest.artifact_type
    assert b"x-vendor" in manifest.raw


def test_oci_index(document):
    index = parse_manifest(document("oci-index"), mediatype.OCI_INDEX)
    assert isinstance(index, Index)
    assert [str(child.platform) for child in index.manifests] == [
        "linux/ppc64le",
        "linux/amd64",
        "linux/arm/v7",
        "windows/amd64",
    ]
    assert index.manifests[3].platform == Platform("windows", "amd64", "", "10.0.20348.1487", ("win32k",))
    assert index.images() == index.manifests


def test_attestations_are_no_images_to_run(document):  # B16
    index = parse_manifest(document("buildkit-index"))
    assert isinstance(index, Index)
    assert len(index.manifests) == 3
    assert [str(child.platform) for child in index.images()] == ["linux/amd64", "linux/arm64"]
    assert is_attestation(index.manifests[2])


def test_docker_schema2_and_list(document):
    manifest = parse_manifest(document("docker-manifest"), mediatype.DOCKER_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert manifest.is_docker
    assert mediatype.is_foreign(manifest.layers[2].media_type)
    assert manifest.layers[2].urls == ("https://layers.example.com/base.tar.gz",)
    index = parse_manifest(document("docker-list"), mediatype.DOCKER_INDEX)
    assert isinstance(index, Index)
    assert [child.size for child in index.manifests] == [7102, 7660]


def test_schema1_is_refused_with_a_way_out(document):
    for media_type in (None, mediatype.DOCKER_SCHEMA1, mediatype.DOCKER_SCHEMA1_SIGNED, "application/json"):
        with pytest.raises(UnsupportedManifest, match="schema 1") as caught:
            parse_manifest(document("schema1"), media_type)
        assert isinstance(caught.value, Unsupported)
        assert caught.value.hint


@pytest.mark.parametrize("name", ["oci-manifest", "oci-index", "docker-manifest", "docker-list"])
@pytest.mark.parametrize(
    "said", [None, "", "application/octet-stream", "application/json", "text/plain; charset=utf-8"]
)
def test_a_transport_that_knows_nothing_is_believed_nothing(document, name: str, said: str | None):
    raw = document(name)
    assert parse_manifest(raw, said).media_type == json.loads(raw)["mediaType"]


def test_parameters_of_a_content_type_do_not_matter(document):
    said = f"{mediatype.OCI_MANIFEST}; charset=utf-8"
    assert parse_manifest(document("oci-manifest"), said).media_type == mediatype.OCI_MANIFEST


class TestAmbiguity:
    """Threat 12: one document, one meaning."""

    image: ClassVar[dict[str, Any]] = {"config": _descriptor("c", mediatype.OCI_CONFIG), "layers": [_descriptor()]}
    index: ClassVar[dict[str, Any]] = {"manifests": [_descriptor("m", mediatype.OCI_MANIFEST)]}

    @pytest.mark.parametrize("media_type", [None, mediatype.OCI_MANIFEST, mediatype.OCI_INDEX, mediatype.DOCKER_INDEX])
    @pytest.mark.parametrize("declared", [None, mediatype.OCI_MANIFEST, mediatype.OCI_INDEX])
    def test_a_document_of_both_kinds_is_refused_whatever_it_is_called(self, media_type, declared):
        both = {"schemaVersion": 2, **self.image, **self.index} | ({"mediaType": declared} if declared else {})
        with pytest.raises(Invalid):
            parse_manifest(dumps(both), media_type)
        with pytest.raises(Invalid):
            parse_manifest(dumps(both | {"layers": None}), media_type)

    def test_the_body_and_the_content_type_must_agree(self, document):
        with pytest.raises(InvalidDocument, match="served as"):
            parse_manifest(document("oci-manifest"), mediatype.OCI_INDEX)
        with pytest.raises(InvalidDocument, match="served as"):
            parse_manifest(document("oci-manifest"), mediatype.DOCKER_MANIFEST)

    def test_fields_must_fit_the_kind_even_without_a_declared_one(self):
        with pytest.raises(InvalidDocument, match="fields of an index"):
            parse_manifest(dumps({"schemaVersion": 2, **self.index}), mediatype.OCI_MANIFEST)
        with pytest.raises(InvalidDocument, match="fields of an image"):
            parse_manifest(dumps({"schemaVersion": 2, **self.image}), mediatype.OCI_INDEX)

    @pytest.mark.parametrize("name", ["Layers", "LAYERS", "Manifests", "mediatype", "Config", "SchemaVersion"])
    def test_members_that_other_parsers_would_take_for_known_ones_are_refused(self, name: str):
        with pytest.raises(InvalidDocument, match="by case only"):
            parse_manifest(dumps({"schemaVersion": 2, **self.image, name: []}))

    def test_a_key_given_twice_is_refused(self):
        one = dumps({"schemaVersion": 2, **self.image})
        with pytest.raises(InvalidDocument, match="duplicate key 'layers'"):
            parse_manifest(one[:-1] + b',"layers":[]}')

    def test_each_kind_alone_is_fine(self):
        assert isinstance(parse_manifest(dumps({"schemaVersion": 2, **self.image})), Manifest)
        assert isinstance(parse_manifest(dumps({"schemaVersion": 2, **self.index})), Index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": None}, "$.config: required"),
        ({"config": {}}, "$.config.size: required"),
        ({"schemaVersion": 3}, "$.schemaVersion: want 2, got 3"),
        ({"schemaVersion": "2"}, "$.schemaVersion: want an integer"),
        ({"layers": {}}, "$.layers: want an array"),
        ({"layers": [7]}, "$.layers[0]: want an object"),
        ({"layers": [{"mediaType": "x", "size": 1, "digest": "sha256:../../x"}]}, "$.layers[0].digest: invalid digest"),
        ({"layers": [_descriptor() | {"size": -1}]}, "$.layers[0].size: negative"),
        ({"layers": [_descriptor() | {"size": 1 << 64}]}, "$.layers[0].size: out of range"),
        ({"layers": [_descriptor() | {"size": 1.5}]}, "$.layers[0].size: want an integer"),
        ({"layers": [_descriptor() | {"mediaType": None}]}, "$.layers[0].mediaType: required"),
        ({"layers": [_descriptor() | {"urls": "x"}]}, "$.layers[0].urls: want an array"),
        ({"annotations": {"a": 1}}, "$.annotations.a: want a string"),
        ({"subject": {"size": 1}}, "$.subject"),
    ],
)
def test_errors_say_where(document, change: dict[str, Any], message: str):
    raw = dumps(json.loads(document("oci-manifest")) | change)
    with pytest.raises(InvalidDocument) as caught:
        parse_manifest(raw)
    assert message in caught.value.message


def test_unknown_kinds_are_unsupported_not_guessed(document):
    with pytest.raises(UnsupportedManifest, match="vnd"):
        parse_manifest(dumps({"schemaVersion": 2, "mediaType": "application/vnd.example+json"}))
    with pytest.raises(UnsupportedManifest):
        parse_manifest(dumps({"schemaVersion": 2}), "text/html")


def test_counts_are_bounded():  # threat 13
    image = {"schemaVersion": 2, "config": _descriptor("c", mediatype.OCI_CONFIG)}
    assert isinstance(parse_manifest(dumps(image | {"layers": [_descriptor()] * MAX_LAYERS})), Manifest)
    with pytest.raises(InvalidDocument, match="exceed the limit"):
        parse_manifest(dumps(image | {"layers": [_descriptor()] * (MAX_LAYERS + 1)}))
    small = {"mediaType": "m", "size": 1, "digest": str(Digest.of(b""))}
    with pytest.raises(InvalidDocument, match="exceed the limit"):
        parse_manifest(dumps({"schemaVersion": 2, "manifests": [small] * (MAX_CHILDREN + 1)}))
    with pytest.raises(LimitExceeded):
        parse_manifest(dumps({"schemaVersion": 2, "manifests": [small] * 100_000}))


def test_an_index_with_nothing_in_it_is_one():
    # Go writes null for a slice that nobody filled
    nothing: tuple[Any, ...] = ([], None)
    for empty in nothing:
        index = parse_manifest(dumps({"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": empty}))
        assert isinstance(index, Index)
        assert index.manifests == ()


_media_types = st.sampled_from(sorted(mediatype.LAYERS))
_texts = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
_descriptors = st.builds(
    Descriptor,
    media_type=_media_types,
    digest=st.binary(max_size=4).map(Digest.of),
    size=st.integers(0, (1 << 63) - 1),
    annotations=_texts,
    urls=st.lists(st.text(max_size=8), max_size=2).map(tuple),
    platform=st.none() | st.sampled_from([Platform.parse("linux/arm64"), Platform.parse("linux/arm/v6")]),
    artifact_type=st.sampled_from(["", "application/x"]),
    extra=st.dictionaries(st.from_regex(r"x-[a-z]{1,5}", fullmatch=True), st.none() | st.integers(0, 9), max_size=2),
)


@given(_descriptors, st.lists(_descriptors, max_size=4), _texts, st.none() | _descriptors, st.sampled_from(["", "a/b"]))
def test_a_made_manifest_reads_back_as_it_was_made(config, layers, annotations, subject, artifact_type):
    made = make_manifest(config, layers, annotations=annotations, subject=subject, artifact_type=artifact_type)
    again = parse_manifest(made.raw, made.media_type)
    assert again == made
    assert (
        make_manifest(config, layers, annotations=annotations, subject=subject, artifact_type=artifact_type).raw
        == made.raw
    )


@given(st.lists(_descriptors, max_size=4), _texts)
def test_a_made_index_reads_back_as_it_was_made(children, annotations):
    for media_type in mediatype.INDEXES:
        made = make_index(children, media_type=media_type, annotations=annotations)
        assert parse_manifest(made.raw, media_type) == made


@given(st.integers(0, 6), st.booleans(), st.text(max_size=10))
def test_bytes_are_kept_however_they_are_laid_out(indent: int, sort: bool, word: str):
    value = {"schemaVersion": 2, **TestAmbiguity.image, "x-unknown": {word: [word, 1.25, None]}}
    raw = json.dumps(value, indent=indent, sort_keys=sort).encode()
    manifest = parse_manifest(raw)
    assert manifest.raw == raw
    assert manifest.descriptor.digest == Digest.of(raw)


def test_descriptors_keep_what_lamina_does_not_know():
    from lamina.spec.document import Node

    source = _descriptor() | {"x-future": {"a": 1}, "annotations": {"k": "v"}}
    descriptor = Descriptor.from_node(Node(source, "manifest"))
    assert descriptor.to_json() == source
    changed = descriptor.with_annotations(**{"org.example/k": "w"})
    assert changed.to_json() == source | {"annotations": {"k": "v", "org.example/k": "w"}}
    assert descriptor.annotations == {"k": "v"}
