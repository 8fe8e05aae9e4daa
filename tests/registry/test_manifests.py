"""Manifests are kept byte for byte, checked when they come, and never rewritten (R02, R09, R12, R21)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamina.registry.config import RegistryConfig
from lamina.spec import mediatype
from lamina.testing.registry import running_registry
from lamina.testing.registry_client import Client, descriptor, digest_of, index_of, manifest_of


def manifest_url(repository: str, reference: str) -> str:
    return f"/v2/{repository}/manifests/{reference}"


def test_exactly_the_bytes_and_the_type_that_were_pushed(client: Client, repository: str) -> None:
    # R02: odd but valid JSON keeps its blanks, its order and the fields that nobody knows
    data = json.dumps(client.image(repository) | {"zz.custom": [1, 2.50]}, indent=5).encode() + b"\n"
    pushed = client.push_manifest(repository, "v1", data)
    digest = digest_of(data)
    assert (pushed.status, pushed.headers["Docker-Content-Digest"]) == (201, digest)
    assert pushed.headers["Location"] == manifest_url(repository, digest)
    for reference in ("v1", digest):
        got, head = (client.request(method, manifest_url(repository, reference)) for method in ("GET", "HEAD"))
        assert (got.status, got.body) == (200, data)
        assert (head.status, head.body) == (200, b"")
        for name in ("Content-Type", "Content-Length", "Docker-Content-Digest", "ETag"):
            assert got.headers[name] == head.headers[name]
        assert got.headers["Content-Type"] == mediatype.OCI_MANIFEST
        assert got.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("accept", ["*/*", mediatype.DOCKER_MANIFEST, "text/html", ""])
def test_accept_never_rewrites(client: Client, repository: str, accept: str) -> None:
    digest = client.push_image(repository, "v1")
    assert digest_of(client.get(manifest_url(repository, "v1"), Accept=accept).body) == digest


@pytest.mark.parametrize("kind", [mediatype.DOCKER_MANIFEST, mediatype.OCI_MANIFEST])
def test_docker_and_oci_types(client: Client, repository: str, kind: str) -> None:
    # R21
    digest = client.push_image(repository, "v1", mediaType=kind)
    assert client.get(manifest_url(repository, digest)).headers["Content-Type"] == kind


def test_a_type_with_parameters_or_none_is_taken_from_the_document(client: Client, repository: str) -> None:
    for kind in (mediatype.OCI_MANIFEST + "; charset=utf-8", "application/json", ""):
        assert client.push_manifest(repository, "v1", client.image(repository), kind).status == 201
        assert client.get(manifest_url(repository, "v1")).headers["Content-Type"] == mediatype.OCI_MANIFEST


def test_what_the_client_has_is_not_sent_again(client: Client, repository: str) -> None:
    digest = client.push_image(repository, "v1")
    reply = client.get(manifest_url(repository, "v1"), If_None_Match=f'"{digest}"')
    assert (reply.status, reply.body, reply.headers["Docker-Content-Digest"]) == (304, b"", digest)
    assert client.get(manifest_url(repository, "v1"), If_None_Match='"other"').status == 200


def test_unknown_names_and_manifests(client: Client, repository: str) -> None:
    assert client.get(manifest_url(repository, "v1")).codes == ["NAME_UNKNOWN"]
    client.push_image(repository, "v1")
    assert client.get(manifest_url(repository, "v2")).codes == ["MANIFEST_UNKNOWN"]
    assert client.get(manifest_url(repository, digest_of(b"x"))).codes == ["MANIFEST_UNKNOWN"]
    assert client.get(manifest_url(repository, "sha256:x")).codes == ["DIGEST_INVALID"]
    assert client.get(manifest_url(repository, "-tag")).codes == ["TAG_INVALID"]
    assert client.get(manifest_url(repository, "a" * 129)).codes == ["TAG_INVALID"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_by_digest(client: Client, repository: str, algorithm: str) -> None:
    data = json.dumps(client.image(repository)).encode()
    digest = digest_of(data, algorithm)
    assert client.push_manifest(repository, digest, data).headers["Docker-Content-Digest"] == digest
    assert client.get(manifest_url(repository, digest)).body == data
    wrong = client.push_manifest(repository, digest_of(b"other", algorithm), data)
    assert (wrong.status, wrong.codes) == (400, ["DIGEST_INVALID"])


def test_several_tags_with_one_push(client: Client, repository: str) -> None:
    # R09
    data = json.dumps(client.image(repository)).encode()
    pushed = client.push_manifest(repository, f"{digest_of(data)}?tag=1.2.3&tag=1.2&tag=1&tag=1.2", data)
    assert pushed.status == 201
    assert pushed.headers.get_all("OCI-Tag") == ["1.2.3", "1.2", "1"]
    assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == ["1", "1.2", "1.2.3"]
    assert client.get(manifest_url(repository, "1.2")).body == data


def test_tags_that_cannot_be_set_together(client: Client, repository: str) -> None:
    data = json.dumps(client.image(repository)).encode()
    digest = digest_of(data)
    assert client.push_manifest(repository, f"{digest}?tag=ok&tag=not%20ok", data).codes == ["TAG_INVALID"]
    assert client.push_manifest(repository, "v1?tag=v2", data).status == 400
    many = "&".join(f"tag=t{number}" for number in range(101))
    assert client.push_manifest(repository, f"{digest}?{many}", data).status == 400
    assert client.get(manifest_url(repository, "ok")).status == 404


def test_blobs_must_be_there_before_the_manifest(client: Client, repository: str) -> None:
    # R09
    config, layer = repository.encode(), b"layer of " + repository.encode()
    client.push_blob(repository, config)
    reply = client.push_manifest(repository, "v1", manifest_of(config, layer))
    assert (reply.status, reply.codes) == (404, ["MANIFEST_BLOB_UNKNOWN"])
    assert reply.json()["errors"][0]["detail"] == [{"digest": digest_of(layer)}]
    client.push_blob(repository, layer)
    assert client.push_manifest(repository, "v1", manifest_of(config, layer)).status == 201


def test_a_blob_of_another_repository_does_not_count(client: Client, repository: str) -> None:
    # threat 50
    document = client.image(f"{repository}/other", layer=repository.encode())
    client.push_image(repository, "v1")
    assert client.push_manifest(repository, "v2", document).codes == ["MANIFEST_BLOB_UNKNOWN"]


def test_sizes_are_checked(client: Client, repository: str) -> None:
    # R21
    document = client.image(repository)
    document["layers"][0]["size"] += 1
    assert client.push_manifest(repository, "v1", document).codes == ["SIZE_INVALID"]
    document["layers"] = [document["layers"][0], document["layers"][0] | {"size": 5}]
    assert client.push_manifest(repository, "v1", document).codes == ["SIZE_INVALID"]


def test_layers_that_are_not_distributed_need_not_be_there(client: Client, repository: str) -> None:
    # R21
    document = client.image(repository)
    document["layers"].append(descriptor(b"elsewhere", mediatype.OCI_FOREIGN_LAYER_GZIP) | {"urls": ["https://x/y"]})
    assert client.push_manifest(repository, "v1", document).status == 201


def test_unknown_config_and_layer_types_are_stored(client: Client, repository: str) -> None:
    # R21: artifacts of any kind, with the empty descriptor
    client.push_blob(repository, b"{}")
    client.push_blob(repository, b"anything")
    document = manifest_of(b"{}") | {"artifactType": "application/vnd.example+type"}
    document["config"] = descriptor(b"{}", mediatype.OCI_EMPTY)
    document["layers"] = [descriptor(b"anything", "application/x-unheard-of")]
    assert client.push_manifest(repository, "v1", document).status == 201


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schemaVersion":2}',
        b'{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}',
        b'{"schemaVersion":2,"config":{},"layers":[]}',
        b'{"schemaVersion":2,"config":null,"layers":[],"manifests":[]}',
        b'{"schemaVersion":2,"schemaVersion":2,"manifests":[]}',
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_malformed_manifests(client: Client, repository: str, data: bytes) -> None:
    reply = client.push_manifest(repository, "v1", data)
    assert (reply.status, reply.codes) == (400, ["MANIFEST_INVALID"])
    assert client.get(manifest_url(repository, "v1")).status == 404


def test_an_index_and_its_children(client: Client, repository: str) -> None:
    child = client.image(repository)
    data = json.dumps(child).encode()
    client.push_manifest(repository, digest_of(data), data)
    index = index_of(descriptor(data, mediatype.OCI_MANIFEST))
    assert client.push_manifest(repository, "multi", index).status == 201
    assert client.get(manifest_url(repository, "multi")).headers["Content-Type"] == mediatype.OCI_INDEX
    nested = index_of(descriptor(json.dumps(index).encode(), mediatype.OCI_INDEX))
    assert client.push_manifest(repository, "nested", nested).status == 201


def test_an_index_may_be_sparse_and_reveals_nothing(client: Client, repository: str) -> None:
    # threat 50: naming another repository's manifest does not make it readable here
    digest = client.push_image(f"{repository}/other", "v1")
    raw = client.get(manifest_url(f"{repository}/other", "v1")).body
    assert client.push_manifest(repository, "v1", index_of(descriptor(raw, mediatype.OCI_MANIFEST))).status == 201
    assert client.get(manifest_url(repository, digest)).codes == ["MANIFEST_UNKNOWN"]


def test_an_image_may_be_sparse_where_that_was_asked_for(tmp_path: Path) -> None:
    # R09, threat 50: what is missing stays missing, what is there must have its size
    with running_registry(str(tmp_path), RegistryConfig(sparse_images=True)) as address:
        client = Client(address)
        layer = b"pushed later"
        elsewhere = client.push_blob("other", layer)
        document = manifest_of(b"{}", layer)
        client.push_blob("a", b"{}")
        assert client.push_manifest("a", "v1", document).status == 201
        assert client.get(manifest_url("a", "v1")).json() == document
        assert client.get(f"/v2/a/blobs/{elsewhere}").codes == ["BLOB_UNKNOWN"]
        client.push_blob("a", layer)
        document["layers"][0]["size"] += 1
        assert client.push_manifest("a", "v2", document).codes == ["SIZE_INVALID"]


def test_a_tag_moves_and_the_old_manifest_stays(client: Client, repository: str) -> None:
    first = client.push_image(repository, "v1", annotations={"n": "1"})
    assert client.get(manifest_url(repository, "v1")).headers["Docker-Content-Digest"] == first
    second = client.push_image(repository, "v1", annotations={"n": "2"})
    assert client.get(manifest_url(repository, "v1")).headers["Docker-Content-Digest"] == second
    assert client.get(manifest_url(repository, first)).status == 200


def test_delete_a_tag_and_keep_its_manifest(client: Client, repository: str) -> None:
    # R12
    digest = client.push_image(repository, "v1")
    assert client.request("DELETE", manifest_url(repository, "v1")).status == 202
    assert client.get(manifest_url(repository, "v1")).codes == ["MANIFEST_UNKNOWN"]
    assert client.get(manifest_url(repository, digest)).status == 200
    assert client.request("DELETE", manifest_url(repository, "v1")).codes == ["MANIFEST_UNKNOWN"]


def test_delete_a_manifest_with_all_its_tags(client: Client, repository: str) -> None:
    # R12
    digest = client.push_image(repository, "v1")
    client.push_image(repository, "v2")
    other = client.push_image(repository, "v3", annotations={"other": "image"})
    assert client.request("DELETE", manifest_url(repository, digest)).status == 202
    for reference in ("v1", "v2", digest):
        assert client.get(manifest_url(repository, reference)).codes == ["MANIFEST_UNKNOWN"]
    assert client.get(manifest_url(repository, "v3")).headers["Docker-Content-Digest"] == other
    assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == ["v3"]
    assert client.request("DELETE", manifest_url(repository, digest)).status == 404


def test_subject_is_confirmed_whether_it_exists_or_not(client: Client, repository: str) -> None:
    # R09
    subject: dict[str, Any] = descriptor(b"not here", mediatype.OCI_MANIFEST)
    document = client.image(repository) | {"subject": subject}
    pushed = client.push_manifest(repository, "v1", document)
    assert (pushed.status, pushed.headers["OCI-Subject"]) == (201, subject["digest"])
    assert client.push_manifest(repository, "v2", client.image(repository)).headers["OCI-Subject"] is None
