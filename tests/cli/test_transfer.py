"""`lamina pull` and `lamina push` against docker-registry and our own registry, skopeo as witness (S14, S47, C08, C09)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lamina.image.copy import copy
from lamina.spec.reference import Reference
from lamina.testing.commandline import CommandLine
from lamina.testing.docker_registry import RegistryMissing, docker_registry
from lamina.testing.images import random_image, random_index, tar_of
from lamina.testing.registry import running_registry
from lamina.transports.remote.client import Client
from lamina.transports.remote.settings import ClientSettings
from lamina.transports.remote.sink import open_sink


@pytest.fixture
def lamina(tmp_path: Path) -> CommandLine:
    (tmp_path / "one").mkdir()
    return CommandLine(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> CommandLine:
    """A second machine."""
    (tmp_path / "two").mkdir()
    return CommandLine(tmp_path / "two")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(str(tmp_path_factory.mktemp("registry"))) as address:
        yield address


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry with one account: me, secret."""
    try:
        with docker_registry(tmp_path_factory.mktemp("guarded"), guarded=True) as address:
            yield address
    except RegistryMissing as error:
        pytest.skip(str(error))


def publish(content: object, name: str) -> None:
    """Put made-up content into a registry."""
    with Client(ClientSettings()) as client:
        copy(content, open_sink(client, Reference.parse(name)))  # type: ignore[arg-type]


def make(lamina: CommandLine, name: str, content: bytes = b"hello") -> str:
    return lamina.ok("import", "-", name, stdin=tar_of([("etc/motd", content)])).strip()


def layer_ids(lamina: CommandLine, name: str) -> list[str]:
    return [
        layer.removeprefix("sha256:")[:12]
        for layer in json.loads(lamina.ok("image", "inspect", "-f", "{{json .RootFS.Layers}}", name))
    ]


def test_push_transcript(lamina: CommandLine, registry: str):  # S47, S03
    make(lamina, f"{registry}/me/app")
    (layer,) = layer_ids(lamina, f"{registry}/me/app")
    lines = lamina.ok("push", f"{registry}/me/app").splitlines()
    assert lines[:4] == [
        "Using default tag: latest",
        f"The push refers to repository [{registry}/me/app]",
        f"{layer}: Preparing",
        f"{layer}: Pushed",
    ]
    label, what, digest, size, count = lines[4].split()
    assert (label, what, size) == ("latest:", "digest:", "size:")
    assert digest.startswith("sha256:")
    assert int(count) > 100
    lamina.ok("tag", f"{registry}/me/app", f"{registry}/me/app:2")
    again = lamina.ok("push", f"{registry}/me/app:2").splitlines()
    # Identical content has an identical digest under a second tag (S47).
    assert again[1:] == [f"{layer}: Preparing", f"{layer}: Layer already exists", f"2: digest: {digest} size: {count}"]
    assert lamina.ok("images", "--format", "{{.Digest}}").split() == [digest, digest]


def test_push_mounts_layers_from_repositories_that_have_them(lamina: CommandLine, registry: str):  # S03
    make(lamina, f"{registry}/mount/from", b"shared between two")
    (layer,) = layer_ids(lamina, f"{registry}/mount/from")
    lamina.ok("push", "-q", f"{registry}/mount/from")
    lamina.ok("tag", f"{registry}/mount/from", f"{registry}/mount/to")
    assert f"{layer}: Mounted from mount/from" in lamina.ok("push", f"{registry}/mount/to")


def test_pull_transcript(lamina: CommandLine, other: CommandLine, registry: str):  # S14
    identity = make(lamina, f"{registry}/pull/app:1", b"to be pulled")
    pushed = lamina.ok("push", f"{registry}/pull/app:1")
    digest = pushed.split()[-3]
    lines = other.ok("pull", f"{registry}/pull/app:1").splitlines()
    assert lines[0] == "1: Pulling from pull/app"
    states = [line.split(": ", 1)[1] for line in lines[1:-3]]
    assert (states[0], states[-1]) == ("Pulling fs layer", "Pull complete")
    assert lines[-3:] == [
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {registry}/pull/app:1",
        f"{registry}/pull/app:1",
    ]
    assert other.ok("images", "-q", "--no-trunc").strip() == identity
    assert other.ok("pull", f"{registry}/pull/app:1").splitlines() == [
        "1: Pulling from pull/app",
        f"Digest: {digest}",
        f"Status: Image is up to date for {registry}/pull/app:1",
        f"{registry}/pull/app:1",
    ]
    assert other.ok("pull", "-q", f"{registry}/pull/app:1") == f"{registry}/pull/app:1\n"


def test_pull_shares_layers_that_are_here(lamina: CommandLine, registry: str):  # S03
    from lamina.image.mutate import append_layers
    from lamina.testing.images import random_layer

    base = random_image(41, layers=1)
    publish(base, f"{registry}/share/base")
    publish(append_layers(base, [random_layer(43)]), f"{registry}/share/more")
    lamina.ok("pull", f"{registry}/share/base")
    lines = lamina.ok("pull", f"{registry}/share/more").splitlines()
    assert f"{base.layers[0].descriptor.digest.short}: Already exists" in lines


def test_pull_by_digest_pins(lamina: CommandLine, registry: str):  # S15, C08
    image = random_image(5)
    publish(image, f"{registry}/pin/app:1")
    publish(random_image(6), f"{registry}/pin/app:1")
    pinned = f"{registry}/pin/app@{image.manifest.digest}"
    lines = lamina.ok("pull", pinned).splitlines()
    assert lines[0] == f"{image.manifest.digest}: Pulling from pin/app"
    assert lines[-2:] == [f"Status: Downloaded newer image for {pinned}", pinned]
    assert lamina.ok("images", "--format", "{{.Repository}} {{.Tag}}") == f"{registry}/pin/app <none>\n"
    assert json.loads(lamina.ok("image", "inspect", pinned))[0]["RepoDigests"] == [pinned]
    assert lamina.ok("pull", pinned).splitlines()[-2] == f"Status: Image is up to date for {pinned}"
    assert lamina.ok("rmi", pinned).splitlines()[0] == f"Untagged: {pinned}"


def test_pull_takes_the_platform_out_of_an_index(lamina: CommandLine, registry: str):  # C08
    index = random_index(10)
    publish(index, f"{registry}/multi/app")
    lamina.ok("pull", "--platform", "linux/arm64", f"{registry}/multi/app")
    (found,) = json.loads(lamina.ok("image", "inspect", f"{registry}/multi/app"))
    assert (found["Architecture"], found["RepoDigests"]) == ("arm64", [f"{registry}/multi/app@{index.index.digest}"])
    assert found["Descriptor"]["digest"] == str(index.index.digest)
    outcome = lamina("pull", "--platform", "linux/s390x", f"{registry}/multi/app")
    assert outcome.status == 1
    assert outcome.err.startswith(
        "Error response from daemon: no matching manifest for linux/s390x in the manifest list entries"
    )
    publish(random_image(12), f"{registry}/multi/single")
    mismatch = lamina("pull", "--platform", "linux/arm64", f"{registry}/multi/single")
    assert mismatch.status == 1
    assert "was found but does not match the specified platform" in mismatch.err


def test_pull_all_tags(lamina: CommandLine, registry: str):  # C08
    for number, tag in enumerate(("a", "b")):
        publish(random_image(20 + number), f"{registry}/all/app:{tag}")
    lines = lamina.ok("pull", "-a", f"{registry}/all/app").splitlines()
    assert [line for line in lines if "Pulling from" in line] == ["a: Pulling from all/app", "b: Pulling from all/app"]
    assert lines[-2:] == [f"Status: Downloaded newer image for {registry}/all/app", f"{registry}/all/app"]
    assert sorted(lamina.ok("images", "--format", "{{.Tag}}").split()) == ["a", "b"]
    assert lamina("pull", "-a", f"{registry}/all/app:a").err == "tag can't be used with --all-tags/-a\n"


def test_push_all_tags(lamina: CommandLine, registry: str):  # C09
    make(lamina, f"{registry}/pushall/app:1", b"1")
    make(lamina, f"{registry}/pushall/app:2", b"2")
    lines = lamina.ok("push", "-a", f"{registry}/pushall/app").splitlines()
    assert [line.split(":")[0] for line in lines if " digest: " in line] == ["1", "2"]
    assert lamina.ok("push", "-aq", f"{registry}/pushall/app") == f"{registry}/pushall/app\n"


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_digests_survive_a_trip_between_registries(  # decision 8, Y05
    lamina: CommandLine, registry: str, tmp_path: Path, docker: bool
):
    image = random_image(30 + docker, layers=3, docker=docker)
    publish(image, f"{registry}/trip/app:1")
    lamina.ok("pull", f"{registry}/trip/app:1")
    with running_registry(str(tmp_path / "second")) as second:
        lamina.ok("tag", f"{registry}/trip/app:1", f"{second}/trip/copy:1")
        lines = lamina.ok("push", f"{second}/trip/copy:1").splitlines()
        digest = str(image.manifest.digest)
        assert lines[-1] == f"1: digest: {digest} size: {len(image.manifest.raw)}"
        if shutil.which("skopeo"):
            command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{second}/trip/copy:1"]
            env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
            seen = json.loads(subprocess.run(command, check=True, capture_output=True, env=env).stdout)
            (ours,) = json.loads(lamina.ok("image", "inspect", f"{second}/trip/copy:1"))
            assert (seen["Digest"], seen["Architecture"], seen["Labels"]) == (
                digest,
                ours["Architecture"],
                ours["Config"]["Labels"],
            )
            assert f"{second}/trip/copy@{digest}" in ours["RepoDigests"]


def test_a_sparse_index_is_pushed_as_the_image_that_is_here(lamina: CommandLine, registry: str):  # C09
    index = random_index(60)
    publish(index, f"{registry}/sparse/app")
    lamina.ok("pull", "--platform", "linux/amd64", f"{registry}/sparse/app")
    lamina.ok("tag", f"{registry}/sparse/app", f"{registry}/sparse/copy")
    out = lamina.ok("push", f"{registry}/sparse/copy")
    child = index.index.manifests[0].digest
    assert f"latest: digest: {child} size: " in out
    assert "only the available single-platform image was pushed" in out
    lamina.ok("pull", "--platform", "linux/arm64", f"{registry}/sparse/app")
    lamina.ok("tag", f"{registry}/sparse/app", f"{registry}/sparse/whole")
    assert f"digest: {index.index.digest} size: " in lamina.ok("push", f"{registry}/sparse/whole")
    assert f"digest: {child} size: " in lamina.ok("push", "--platform", "linux/amd64", f"{registry}/sparse/whole")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["pull", "{registry}/err/app:nope"], "Error response from daemon: repository {registry}/err/app not found"),
        (["pull", "UPPER"], "invalid reference format"),
        (["pull", "127.0.0.1:1/x"], 'Error response from daemon: Get "http'),
        (["push", "{registry}/err/none"], "An image does not exist locally with the tag: {registry}/err/none"),
        (["push", "{registry}/err/some:2"], "tag does not exist: {registry}/err/some:2"),
        (["push", "127.0.0.1:1/here"], "dial tcp 127.0.0.1:1: connect: connection refused"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals_are_one_clear_line(lamina: CommandLine, registry: str, words: list[str], problem: str):
    make(lamina, f"{registry}/err/some:1")
    lamina.ok("tag", f"{registry}/err/some:1", "127.0.0.1:1/here")
    outcome = lamina(*(word.format(registry=registry) for word in words))
    assert outcome.status == 1
    first = outcome.err.splitlines()[0]
    assert problem.format(registry=registry) in first
    assert len([line for line in outcome.err.splitlines() if not line.startswith("Hint:")]) == 1


def test_a_missing_tag_is_named(lamina: CommandLine, registry: str):
    publish(random_image(70), f"{registry}/err/tags:1")
    outcome = lamina("pull", f"{registry}/err/tags:2")
    assert outcome.status == 1
    assert outcome.err.startswith(
        f"Error response from daemon: manifest for {registry}/err/tags:2 not found: manifest unknown: "
    )


def test_passwords(lamina: CommandLine, guarded: str):  # S48, S49, S50
    make(lamina, f"{guarded}/me/app")
    refused = lamina("push", f"{guarded}/me/app")
    assert refused.status == 1
    assert refused.err.splitlines()[0] == "no basic auth credentials"  # in docker's stream of progress: no prefix
    wrong = lamina("login", "-u", "me", "--password-stdin", guarded, stdin=b"wrong\n")
    assert wrong.status == 1
    assert "Login Succeeded" in lamina.ok("login", "-u", "me", "--password-stdin", guarded, stdin=b"secret\n")
    lamina.ok("push", f"{guarded}/me/app")
    lamina.ok("logout", guarded)
    denied = lamina("pull", f"{guarded}/me/app")
    assert denied.status == 1
    assert denied.err.splitlines()[0] == "Error response from daemon: no basic auth credentials"
    assert "secret" not in denied.err


class _Liar(BaseHTTPRequestHandler):
    """Serves a manifest whose layer's bytes are not the layer's."""

    image = random_image(80, layers=1)

    def do_GET(self) -> None:
        image = self.image
        layer = image.layers[0].descriptor
        body, kind = b"{}", "application/json"
        if "/manifests/" in self.path:
            body, kind = image.manifest.raw, image.manifest.media_type
        elif str(image.manifest.config.digest) in self.path:
            body = image.config.raw
        elif str(layer.digest) in self.path:
            body = bytes(layer.size)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_wrong_bytes_leave_nothing_behind(lamina: CommandLine):  # threat 10
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Liar)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        outcome = lamina("pull", f"127.0.0.1:{server.server_port}/lies/app")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert outcome.status == 1
    assert "Error response from daemon: " in outcome.err
    assert str(_Liar.image.layers[0].descriptor.digest) in outcome.err
    assert lamina.ok("images", "-qa") == ""
    assert lamina("fsck").status == 0
