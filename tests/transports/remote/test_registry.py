"""Our client and Debian's docker-registry: push, pull, mount, list, delete, and digests that never change."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from lamina.errors import NotFound
from lamina.image.copy import CopyOptions, copy
from lamina.image.partial import MadeImage
from lamina.image.protocols import Capabilities, Image, ImageIndex, is_index
from lamina.image.validate import validate
from lamina.progress import Progress
from lamina.spec import mediatype
from lamina.spec.distribution import Code
from lamina.spec.manifest import make_manifest
from lamina.spec.reference import Reference, Repository
from lamina.testing.hostile_registry import Reply, Seen, error_reply
from lamina.testing.images import ARM64, random_image, random_index
from lamina.testing.made_up_internet import HOST, NAME, World, bend
from lamina.transports.remote.client import Client
from lamina.transports.remote.push import push
from lamina.transports.remote.referrers import referrers
from lamina.transports.remote.sink import ManifestTypeRefused, delete, open_sink
from lamina.transports.remote.source import RemoteSource, open_remote
from lamina.transports.remote.tags import repositories, tags

Run = Callable[..., bytes]


def words(events: list[Progress]) -> list[str]:
    return [event.status for event in events if event.final]


def test_push_and_pull_keep_every_byte(docker_registry: str, client: Client) -> None:
    contents: list[Image | ImageIndex] = [random_image(1), random_image(2, docker=True), random_index(3)]
    for number, content in enumerate([*contents, random_index(4, docker=True)]):
        name = Reference.parse(f"{docker_registry}/keep/x:{number}")
        put = copy(content, open_sink(client, name))
        source = RemoteSource(client.session(docker_registry), name.repository)
        assert source.resolve(name) == put
        found = source.image(name)
        validate(found)
        assert source.manifest(name)[0] == (content.index.raw if is_index(content) else content.manifest.raw)
        validate(source.image(name.with_digest(put.digest)))


def test_a_second_push_sends_nothing_and_a_mount_neither(docker_registry: str, client: Client) -> None:  # S03, S47
    image, first = random_image(10), Reference.parse(f"{docker_registry}/first/x:1")
    events: list[Progress] = []
    copy(image, open_sink(client, first), report=events.append)
    assert words(events) == ["Pushed", "Pushed"]
    assert {event.id for event in events} == {layer.diff_id.short for layer in image.layers}
    events.clear()
    copy(image, open_sink(client, first.with_tag("2")), report=events.append)
    assert words(events) == ["Layer already exists", "Layer already exists"]
    events.clear()
    options = CopyOptions(mount_sources=lambda _blob: [Repository("other.example", "x"), first.repository])
    second = Reference.parse(f"{docker_registry}/second/x:1")
    assert copy(image, open_sink(client, second), options, report=events.append).digest == image.manifest.digest
    assert words(events) == ["Mounted from first/x", "Mounted from first/x"]
    validate(open_remote(client, second))


def test_one_platform_of_many_is_pushed(docker_registry: str, client: Client) -> None:
    name = Reference.parse(f"{docker_registry}/arm/x:1")
    copy(random_index(20), open_sink(client, name), CopyOptions(platform=ARM64))
    found = open_remote(client, name)
    assert not is_index(found)
    assert found.config.platform == ARM64


def test_tags_catalog_and_deletion(docker_registry: str, client: Client) -> None:
    names = [Reference.parse(f"{docker_registry}/many/x:{number:02}") for number in range(25)]
    for name in names:
        copy(random_image(30), open_sink(client, name))
    session = client.session(docker_registry)
    assert sorted(tags(session, names[0].repository, page=7)) == [name.tag for name in names]
    assert "many/x" in list(repositories(session, page=3))
    delete(session, names[0].with_digest(random_image(30).manifest.digest))
    with pytest.raises(
        NotFound, match=f"manifest for {docker_registry}/many/x:00 not found: manifest unknown: manifest unknown"
    ):
        open_remote(client, names[0])
    with pytest.raises(NotFound, match="repository name not known"):
        list(tags(session, Repository(docker_registry, "no/such")))


def test_referrers_fall_back_to_a_tag(docker_registry: str, client: Client) -> None:  # R11; 2.8 lacks the API
    session, repository = client.session(docker_registry), Repository(docker_registry, "signed/x")
    image = random_image(40)
    copy(image, open_sink(client, Reference(repository, "1")))
    assert referrers(session, repository, image.manifest.digest) == []
    for number in (1, 2):
        other = random_image(40 + number)
        signature = make_manifest(
            other.manifest.config, other.manifest.layers, subject=image.manifest.descriptor,
            artifact_type=f"application/vnd.example.{number}",
        )  # fmt: skip

        class Signed(MadeImage):
            manifest = signature

        copy(Signed(other.config, other.layers), open_sink(client, Reference(repository, "", signature.digest)))
    assert len(referrers(session, repository, image.manifest.digest)) == 2
    (found,) = referrers(session, repository, image.manifest.digest, "application/vnd.example.2")
    assert found.artifact_type == "application/vnd.example.2"


@pytest.mark.peer
def test_skopeo_and_lamina_see_the_same_registry(docker_registry: str, client: Client, skopeo: Run) -> None:
    image, name = random_image(50), Reference.parse(f"{docker_registry}/shared/x:1")
    copy(image, open_sink(client, name))
    assert skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}") == image.manifest.raw
    skopeo(
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        f"docker://{name}",
        f"docker://{docker_registry}/shared/y:1",
    )
    found = open_remote(client, Reference.parse(f"{docker_registry}/shared/y:1"))
    assert not is_index(found)
    assert found.manifest.digest == image.manifest.digest
    assert json.loads(found.manifest.raw)["schemaVersion"] == 2


def test_a_registry_that_knows_only_dockers_types_gets_those(world: World) -> None:
    def change(request: Seen) -> Reply | None:
        refuse = request.method == "PUT" and "oci" in request.headers.get("content-type", "")
        return error_reply(Code.MANIFEST_INVALID) if refuse else None

    world.serve(HOST, "11.0.0.1", bend(world, change))
    image, client = random_image(60), world.client()
    push(image, open_sink(client, NAME))
    found = open_remote(client, NAME)
    assert not is_index(found)
    assert found.manifest.media_type == mediatype.DOCKER_MANIFEST
    assert found.config.raw == image.config.raw
    validate(found)
    with pytest.raises(ManifestTypeRefused, match="manifest invalid"):
        push(image, open_sink(client, NAME), CopyOptions(preserve_digests=True))


def test_head_failing_falls_back_to_get(world: World) -> None:
    world.serve(HOST, "11.0.0.1", world.registry)
    inner = world.servers[HOST].handler

    def bare(request: Seen) -> Reply:
        reply = inner(request)
        return replace(reply, headers=[("Content-Type", "text/plain")]) if request.method == "HEAD" else reply

    world.servers[HOST].handler = bare
    found = RemoteSource(world.client().session(HOST), NAME.repository).resolve(NAME)
    assert (found.digest, found.media_type) == (random_image(1).manifest.digest, mediatype.OCI_MANIFEST)


def test_capabilities_are_stated(client: Client) -> None:
    assert open_sink(client, NAME).capabilities == Capabilities(
        mediatype.MANIFESTS | mediatype.INDEXES, parallel_blobs=5
    )


@pytest.mark.parametrize(
    "code", [Code.DENIED, Code.UNAUTHORIZED, Code.NAME_UNKNOWN, Code.UNSUPPORTED, Code.BLOB_UPLOAD_INVALID]
)
def test_a_mount_that_is_refused_becomes_an_upload(world: World, code: Code) -> None:
    def change(request: Seen) -> Reply | None:
        return error_reply(code) if "mount=" in request.target else None

    world.serve(HOST, "11.0.0.1", bend(world, change))
    events: list[Progress] = []
    options = CopyOptions(mount_sources=lambda _blob: [Repository(HOST, "private/x")])
    copy(random_image(70), open_sink(world.client(), NAME.with_tag("70")), options, report=events.append)
    assert words(events) == ["Pushed", "Pushed"]
    validate(open_remote(world.client(), NAME.with_tag("70")))
