"""Media types: the vocabulary is whole and its questions agree with each other."""

from __future__ import annotations

import pytest

from lamina.spec import annotations as keys
from lamina.spec import mediatype


def test_names_are_those_of_the_specifications():
    # image-spec media-types.md and Docker's schema 2, spelt out once more by hand
    assert mediatype.OCI_LAYER_GZIP == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert mediatype.OCI_FOREIGN_LAYER == "application/vnd.oci.image.layer.nondistributable.v1.tar"
    assert mediatype.DOCKER_LAYER_GZIP == "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert mediatype.DOCKER_INDEX == "application/vnd.docker.distribution.manifest.list.v2+json"
    assert keys.REF_NAME == "org.opencontainers.image.ref.name"


def test_kinds_do_not_overlap():
    kinds = [mediatype.MANIFESTS, mediatype.INDEXES, mediatype.CONFIGS, mediatype.LAYERS]
    assert sum(map(len, kinds)) == len(frozenset().union(*kinds))
    assert mediatype.FOREIGN_LAYERS < mediatype.LAYERS
    assert set(mediatype.ACCEPT_MANIFESTS) == mediatype.MANIFESTS | mediatype.INDEXES


@pytest.mark.parametrize("media_type", sorted(mediatype.LAYERS))
def test_every_layer_says_its_compression(media_type: str):
    wanted = "gzip" if "gzip" in media_type else "zstd" if "zstd" in media_type else "none"
    assert mediatype.layer_compression(media_type) == wanted
    assert mediatype.is_layer(media_type)
    assert mediatype.is_foreign(media_type) == ("foreign" in media_type or "nondistributable" in media_type)


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_layer_type_for_each_compression_in_both_vocabularies(compression: str, docker: bool):
    media_type = mediatype.layer_type(compression=compression, docker=docker)
    assert mediatype.layer_compression(media_type) == compression
    assert ("docker" in media_type) == docker
    assert not mediatype.is_foreign(media_type)


def test_questions():
    assert mediatype.is_index(mediatype.OCI_INDEX)
    assert mediatype.is_manifest(mediatype.DOCKER_MANIFEST)
    assert not mediatype.is_manifest(mediatype.OCI_INDEX)
    assert not mediatype.is_layer("text/plain")
