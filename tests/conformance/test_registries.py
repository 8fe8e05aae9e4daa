"""Registries between lamina and its peers: whoever pushes and whoever pulls, the digest is the same."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytestmark = pytest.mark.peer

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ANY = f"{INDEX}, {MANIFEST}, " + ", ".join(
    f"application/vnd.docker.distribution.{kind}.v2+json" for kind in ("manifest", "manifest.list")
)
PLAIN = "--tls-verify=false"


def manifest_of(name: str) -> tuple[str, dict[str, Any]]:
    """Digest and document behind HOST/REPOSITORY:TAG, asked for without any of the peers."""
    host, _, rest = name.partition("/")
    repository, _, tag = rest.rpartition(":")
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{tag}", headers={"Accept": ANY})
    with urllib.request.urlopen(request, timeout=30) as answer:
        body = answer.read()
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    assert answer.headers["Docker-Content-Digest"] == digest
    return digest, json.loads(body)


def repo_digest(image: dict[str, Any], name: str) -> list[str]:
    repository = name.rpartition(":")[0]
    return [digest.partition("@")[2] for digest in image["RepoDigests"] if digest.startswith(repository + "@")]


@pytest.fixture
def built(lamina, tmp_path):
    """The id of `peers/app:1`, built by lamina with something for every field."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        "FROM peers/base:1\nENV A=1 B='two words'\nLABEL k=v empty=''\nCOPY words /words\nCMD [\"cat\", \"/words\"]\n"
    )
    (folder / "words").write_text("words\n")
    return lamina.ok("build", "-q", "-t", "peers/app:1", str(folder))


@pytest.mark.parametrize("of", ["registry", "docker_registry"])
def test_skopeo_and_lamina_see_the_same_image(lamina, skopeo, built, repository, request, of):  # C07, R01
    name = f"{request.getfixturevalue(of)}/{repository}:1"
    lamina.ok("tag", "peers/app:1", name)
    lamina.ok("push", name)
    ours, theirs = lamina.image(name), json.loads(skopeo.ok("inspect", PLAIN, f"docker://{name}"))
    digest, manifest = manifest_of(name)
    assert theirs["Digest"] == digest
    assert repo_digest(ours, name) == [digest]
    assert manifest["config"]["digest"] == ours["Id"] == built
    assert theirs["Layers"] == [layer["digest"] for layer in manifest["layers"]]
    assert theirs["Env"] == ours["Config"]["Env"]
    assert theirs["Labels"] == ours["Config"]["Labels"] == {"k": "v", "empty": ""}
    assert (theirs["Architecture"], theirs["Os"], theirs["Created"]) == tuple(
        ours[key] for key in ("Architecture", "Os", "Created")
    )


@pytest.mark.root
def test_docker_pushes_and_lamina_pulls(lamina, empty, docker, built, registry, repository, tmp_path, skopeo):  # R01
    name, archive = f"{registry}/{repository}:1", str(tmp_path / "app.tar")
    lamina.ok("save", "-o", archive, "peers/app:1")
    docker.ok("load", "-i", archive)
    docker.ok("tag", "peers/app:1", name)
    said = docker.ok("push", name)
    digest, _ = manifest_of(name)
    assert f"digest: {digest} " in said
    assert f"Digest: {digest}" in empty.ok("pull", name)
    assert empty.image(name)["Id"] == built
    assert repo_digest(empty.image(name), name) == [digest]
    # And back, over a repository of its own: not a byte of the manifest changes.
    again = name.replace("/r/", "/again/")
    empty.ok("tag", name, again)
    assert f"digest: {digest} " in empty.ok("push", again)
    docker.ok("rmi", "-f", name, "peers/app:1")
    assert f"Digest: {digest}" in docker.ok("pull", again)
    assert docker.ok("image", "inspect", "-f", "{{.Id}}", again) == built
    assert docker.ok("run", "--rm", again) == "words"
    assert json.loads(skopeo.ok("inspect", PLAIN, f"docker://{again}"))["Digest"] == digest


@pytest.mark.root
def test_podman_pushes_and_lamina_pulls(lamina, empty, podman, podman_run, built, registry, repository, tmp_path):
    archive = str(tmp_path / "app.tar")
    lamina.ok("save", "-o", archive, "peers/app:1")
    podman.ok("load", "-q", "-i", archive)
    for kind in ("oci", "v2s2"):
        name = f"{registry}/{repository}:{kind}"
        podman.ok("push", "-q", PLAIN, "--format", kind, "peers/app:1", name)
        digest, manifest = manifest_of(name)
        assert ("docker" in manifest["config"]["mediaType"]) == (kind == "v2s2")
        assert f"Digest: {digest}" in empty.ok("pull", name)
        assert manifest["config"]["digest"] == empty.image(name)["Id"]
        podman.ok("rmi", "-a", "-f")
        podman.ok("pull", "-q", PLAIN, name)
        assert podman.ok("image", "inspect", "-f", "{{.Digest}}", name) == digest
        assert podman_run(name) == "words"
        podman.ok("rmi", "-a", "-f")
        podman.ok("load", "-q", "-i", archive)


@pytest.mark.root
def test_layers_in_zstd_travel_as_they_are(
    lamina, empty, podman, podman_run, skopeo, built, registry, docker_registry, repository, tmp_path
):
    """Pushed by podman, pulled and pushed on by lamina, pulled by podman: not recompressed anywhere."""
    archive, target = str(tmp_path / "app.tar"), f"{docker_registry}/{repository}:1"
    # podman remembers for all of the machine which blobs a host has, and takes the layers in gzip that other tests
    # pushed there for these: the host gets a name here that no other test uses.
    name = f"{registry.replace('127.0.0.1', 'localhost')}/{repository}:1"
    lamina.ok("save", "-o", archive, "peers/app:1")
    podman.ok("load", "-q", "-i", archive)
    podman.ok("push", "-q", PLAIN, "--format", "oci", "--compression-format", "zstd", "peers/app:1", name)
    podman.ok("rmi", "-a", "-f")
    digest, manifest = manifest_of(name)
    assert all(layer["mediaType"].endswith("+zstd") for layer in manifest["layers"])
    assert f"Digest: {digest}" in empty.ok("pull", name)
    ours, theirs = empty.image(name), json.loads(skopeo.ok("inspect", PLAIN, f"docker://{name}"))
    assert (ours["Id"], repo_digest(ours, name)) == (manifest["config"]["digest"], [theirs["Digest"]])
    assert ours["RootFS"]["Layers"] == lamina.image("peers/app:1")["RootFS"]["Layers"]
    empty.ok("tag", name, target)
    assert f"digest: {digest} " in empty.ok("push", target)
    assert manifest_of(target) == (digest, manifest)
    assert "sha256:" + podman.ok("pull", "-q", PLAIN, target) == ours["Id"]
    assert podman_run(target) == "words"


@pytest.mark.parametrize("direction", ["to lamina's", "from lamina's"])
def test_pull_from_one_registry_and_push_to_another(  # S10
    lamina, empty, skopeo, built, registry, docker_registry, repository, direction
):
    first, second = (docker_registry, registry) if direction == "to lamina's" else (registry, docker_registry)
    lamina.ok("tag", "peers/app:1", f"{first}/{repository}:1")
    lamina.ok("push", f"{first}/{repository}:1")
    skopeo.ok("copy", f"--src-{PLAIN[2:]}", f"--dest-{PLAIN[2:]}", "--format", "v2s2",
              f"docker://{first}/{repository}:1", f"docker://{first}/{repository}:docker")  # fmt: skip
    for tag in ("1", "docker"):
        source, target = f"{first}/{repository}:{tag}", f"{second}/{repository}:{tag}"
        digest, _ = manifest_of(source)
        assert f"Digest: {digest}" in empty.ok("pull", source)
        empty.ok("tag", source, target)
        said = empty.ok("push", target)
        assert f"{tag}: digest: {digest} " in said
        assert manifest_of(target)[0] == digest
        assert json.loads(skopeo.ok("inspect", PLAIN, f"docker://{target}"))["Digest"] == digest
    # A second tag sends nothing; a second repository mounts.
    other, elsewhere = f"{second}/{repository}:other", f"{second}/{repository}.elsewhere:1"
    empty.ok("tag", source, other)
    assert "Layer already exists" in (said := empty.ok("push", other))
    assert "Pushed" not in said
    assert manifest_of(other)[0] == digest
    empty.ok("tag", source, elsewhere)
    assert f"Mounted from {repository}" in (said := empty.ok("push", elsewhere))
    assert "Pushed" not in said
    assert manifest_of(elsewhere)[0] == digest


@pytest.mark.root
def test_an_index_of_two_platforms_travels_whole(
    lamina, empty, docker, podman, skopeo, base_tar, registry, docker_registry, repository, tmp_path
):
    """Pulled by docker, podman and lamina, each taking this machine's image, and copied on with its own digest."""
    here = lamina.image("peers/base:1")["Architecture"]
    other = "arm64" if here == "amd64" else "amd64"
    children = []
    for architecture in (other, here):
        name = f"{registry}/{repository}:{architecture}"
        lamina.ok("import", "--platform", f"linux/{architecture}", "-c", f"ENV ARCH={architecture}",
                  "-c", 'CMD ["sh", "-c", "echo $ARCH"]', "-", name, stdin=base_tar)  # fmt: skip
        lamina.ok("push", name)
        digest, _ = manifest_of(name)
        size = int(urllib.request.urlopen(f"http://{registry}/v2/{repository}/manifests/{digest}").headers["Content-Length"])  # fmt: skip
        platform = {"os": "linux", "architecture": architecture}
        children.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform})
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode()
    staged, name = f"{registry}/{repository}:staged", f"{registry}/{repository}.multi:1"
    put = urllib.request.Request(f"http://{registry}/v2/{repository}/manifests/staged", data=index, method="PUT",
                                 headers={"Content-Type": INDEX})  # fmt: skip
    assert urllib.request.urlopen(put).status == 201
    plain = (f"--src-{PLAIN[2:]}", f"--dest-{PLAIN[2:]}")
    skopeo.ok("copy", "--all", *plain, f"docker://{staged}", f"docker://{name}")
    digest, _ = manifest_of(name)
    assert digest == "sha256:" + hashlib.sha256(index).hexdigest()

    assert f"Digest: {digest}" in empty.ok("pull", name)
    assert empty.image(name)["Architecture"] == here
    wanted = empty.image(name)["Id"]
    assert f"Digest: {digest}" in docker.ok("pull", name)
    assert docker.ok("image", "inspect", "-f", "{{.Id}}", name) == wanted
    assert docker.ok("run", "--rm", name) == here
    assert "sha256:" + podman.ok("pull", "-q", PLAIN, name) == wanted

    # Only one platform was pulled; pulled whole, the index goes on unchanged.
    empty.ok("pull", "--platform", f"linux/{other}", name)
    assert empty.image(name)["Architecture"] == other
    target = f"{docker_registry}/{repository}.multi:1"
    empty.ok("tag", name, target)
    assert f"digest: {digest} " in empty.ok("push", target)
    assert manifest_of(target)[0] == digest
    back = json.loads(skopeo.ok("inspect", PLAIN, "--raw", f"docker://{target}"))
    assert [child["digest"] for child in back["manifests"]] == [child["digest"] for child in children]


@contextmanager
def counting(upstream: str) -> Iterator[tuple[str, Counter[str]]]:
    """A reverse proxy of a registry that counts the bytes of each path's answers."""
    sent: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            request = urllib.request.Request(f"http://{upstream}{self.path}", headers=headers, method=self.command)
            try:
                answer = urllib.request.urlopen(request, timeout=30)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                body = answer.read()
                length = answer.headers["Content-Length"]
                self.send_response(answer.status)
                for key, value in answer.headers.items():
                    if key.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server"):
                        self.send_header(key, value)
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
            with lock:
                sent[self.path] += len(body)
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()
            thread.join()


def test_twenty_processes_pull_one_image_once(lamina, empty, built, registry, repository):  # S01: shared downloads
    name = f"{registry}/{repository}:1"
    lamina.ok("tag", "peers/app:1", name)
    lamina.ok("push", name)
    _, manifest = manifest_of(name)
    with counting(registry) as (proxy, sent):
        there = f"{proxy}/{repository}:1"
        pulls = [
            subprocess.Popen(
                empty.command("pull", "-q", there), env=empty.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for _ in range(20)
        ]
        ended = [(pull.communicate(timeout=100), pull.returncode) for pull in pulls]
    assert [(err.decode(), status) for (_, err), status in ended] == [("", 0)] * 20
    assert {out.decode().strip() for (out, _), _ in ended} == {there}
    blobs = {blob["digest"]: blob["size"] for blob in (manifest["config"], *manifest["layers"])}
    fetched = {path.rpartition("/")[2]: size for path, size in sent.items() if "/blobs/" in path}
    assert {digest: fetched[digest] for digest in (layer["digest"] for layer in manifest["layers"])} == {
        layer["digest"]: layer["size"] for layer in manifest["layers"]
    }
    assert sum(fetched.values()) < 1.1 * sum(blobs.values())
    assert empty.image(there)["Id"] == built
    empty.ok("fsck")
