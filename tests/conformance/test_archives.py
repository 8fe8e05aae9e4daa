"""Archives that travel between lamina, docker and podman: same image id, same config, same layers, same output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina.testing.dockerd import Docker, clients

pytestmark = [pytest.mark.peer, pytest.mark.root]

CONFIG = (
    "Env",
    "Cmd",
    "Entrypoint",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "WorkingDir",
    "User",
    "StopSignal",
    "OnBuild",
)
DOCKERFILE = """\
FROM peers/base:1
ENV WHO=world GREETING="good day"
LABEL org.example.title="a peer" org.example.empty=""
WORKDIR /app
COPY --chown=1000:1000 words /app/words
RUN echo built > /app/out && echo gone > /app/gone
RUN rm /app/gone && touch /tmp/made
EXPOSE 80/tcp 53/udp
VOLUME /data
USER 1000:1000
STOPSIGNAL SIGINT
ONBUILD RUN true
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["cat words out; id -u; echo $GREETING $WHO; ls /app"]
"""
PRINTED = "words\nbuilt\n1000\ngood day world\nout\nwords"


@pytest.fixture
def context(tmp_path: Path) -> str:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "words").write_text("words\n")
    return str(folder)


def config_of(image: dict[str, Any]) -> dict[str, Any]:
    """What a container inherits; absent and empty mean the same."""
    config = image.get("Config") or {}
    return {key: config[key] for key in CONFIG if config.get(key)}


def inspect(docker: Docker, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.ok("image", "inspect", name))[0]
    return found


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours["Id"] == theirs["Id"]
    assert config_of(ours) == config_of(theirs)
    assert ours["RootFS"] == theirs["RootFS"]
    for key in ("Architecture", "Os", "Author", "Created"):
        assert ours[key] == theirs[key]


@pytest.mark.parametrize("client", clients() or [""])
def test_what_lamina_builds_docker_loads_and_runs(lamina, docker, context, tmp_path, client):  # B01, C12, S13
    docker, archive = docker.through(client), str(tmp_path / "app.tar")
    lamina.ok("build", "-q", "-t", "peers/app:1", context)
    lamina.ok("save", "-o", archive, "peers/app:1")
    assert docker.ok("load", "-i", archive) == "Loaded image: peers/app:1"
    assert_same(lamina.image("peers/app:1"), inspect(docker, "peers/app:1"))
    assert docker.ok("run", "--rm", "peers/app:1") == PRINTED


def test_what_lamina_builds_podman_loads_and_runs(lamina, podman, podman_run, context, tmp_path):
    archive = str(tmp_path / "app.tar")
    lamina.ok("build", "-q", "-t", "peers/app:1", context)
    lamina.ok("save", "-o", archive, "peers/app:1")
    podman.ok("load", "-q", "-i", archive)
    ours, theirs = lamina.image("peers/app:1"), json.loads(podman.ok("image", "inspect", "peers/app:1"))[0]
    assert ours["Id"] == "sha256:" + theirs["Id"]
    assert config_of(ours) == config_of(theirs) | {"OnBuild": ["RUN true"]}  # podman does not show it
    assert ours["RootFS"]["Layers"] == theirs["RootFS"]["Layers"]
    assert podman_run("peers/app:1") == PRINTED


@pytest.mark.runtime
@pytest.mark.parametrize("buildkit", ["0", "1"], ids=["classic", "buildkit"])
def test_what_docker_builds_lamina_loads_runs_and_gives_back(
    lamina, empty, docker, containers, context, tmp_path, buildkit
):
    there, back = str(tmp_path / "there.tar"), str(tmp_path / "back.tar")
    lamina.ok("save", "-o", there, "peers/base:1")
    docker.ok("load", "-i", there)
    docker.ok("build", "--network", "none", "-t", "peers/app:1", context, env={"DOCKER_BUILDKIT": buildkit})
    docker.ok("save", "-o", there, "peers/app:1")
    assert empty.ok("load", "-i", there) == "Loaded image: peers/app:1"
    theirs = inspect(docker, "peers/app:1")
    assert_same(empty.image("peers/app:1"), theirs)
    shown = "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}"
    assert empty.ok("history", *shown, "peers/app:1") == docker.ok("history", *shown, "peers/app:1")
    assert empty.ok("run", "--rm", "--network", "none", "peers/app:1") == PRINTED
    docker.ok("rmi", "-f", "peers/app:1")
    empty.ok("save", "-o", back, "peers/app:1")
    assert docker.ok("load", "-i", back) == "Loaded image: peers/app:1"
    assert_same(inspect(docker, "peers/app:1"), theirs)
    assert docker.ok("run", "--rm", "peers/app:1") == PRINTED
    empty.ok("fsck")


def test_what_podman_saves_lamina_loads(lamina, empty, podman, tmp_path):
    """In both of podman's formats; its id is that of the config."""
    there = str(tmp_path / "there.tar")
    lamina.ok("save", "-o", there, "peers/base:1")
    podman.ok("load", "-q", "-i", there)
    for form in ("docker-archive", "oci-archive"):
        archive = str(tmp_path / f"{form}.tar")
        podman.ok("save", "-q", "--format", form, "-o", archive, "peers/base:1")
        empty.ok("load", "-i", archive)
        assert lamina.image("peers/base:1")["Id"] in empty.ok("images", "-a", "-q", "--no-trunc").split()
        empty.ok("image", "prune", "-a", "-f")


def test_several_images_in_one_archive(lamina, empty, docker, podman, context, tmp_path):  # C12
    archive, back = str(tmp_path / "many.tar"), str(tmp_path / "back.tar")
    lamina.ok("build", "-q", "-t", "peers/app:1", "-t", "peers/app:latest", context)
    names = ("peers/app:1", "peers/app:latest", "peers/base:1")
    lamina.ok("save", "-o", archive, *names)
    docker.ok("load", "-i", archive)
    podman.ok("load", "-q", "-i", archive)
    ids = {name: lamina.image(name)["Id"] for name in names}
    assert {name: inspect(docker, name)["Id"] for name in names} == ids
    assert {name: "sha256:" + podman.ok("image", "inspect", "-f", "{{.Id}}", name) for name in names} == ids
    docker.ok("save", "-o", back, "peers/app:1", "peers/app:latest", "peers/base:1")
    loaded = empty.ok("load", "-i", back)
    assert sorted(loaded.splitlines()) == sorted(f"Loaded image: {name}" for name in names)
    assert {name: empty.image(name)["Id"] for name in names} == ids


@pytest.mark.runtime
def test_a_committed_image_runs_everywhere(  # C17
    lamina, docker, podman, podman_run: Callable[..., str], containers, registry, repository
):
    name = f"{registry}/{repository}:1"
    lamina.ok("run", "--name", "one", "--network", "none", "peers/base:1", "sh", "-c", "echo kept > /etc/kept")
    made = lamina.ok("commit", "-c", 'CMD ["cat", "/etc/kept"]', "-c", "ENV A=b", "-m", "why", "one", name)
    lamina.ok("rm", "one")
    lamina.ok("push", name)
    docker.ok("pull", "-q", name)
    assert inspect(docker, name)["Id"] == made == lamina.image(name)["Id"]
    assert docker.ok("run", "--rm", name) == "kept"
    podman.ok("pull", "-q", "--tls-verify=false", name)
    assert podman_run(name) == "kept"
    assert lamina.ok("run", "--rm", "--network", "none", name) == "kept"


@pytest.mark.runtime
def test_a_committed_image_on_layers_that_docker_made_is_pushed(
    lamina, empty, docker, containers, context, registry, repository, tmp_path
):
    there, name = str(tmp_path / "there.tar"), f"{registry}/{repository}:1"
    lamina.ok("save", "-o", there, "peers/base:1")
    docker.ok("load", "-i", there)
    docker.ok("build", "--network", "none", "-t", "peers/app:1", context, env={"DOCKER_BUILDKIT": "0"})
    docker.ok("save", "-o", there, "peers/app:1")
    empty.ok("load", "-i", there)
    empty.ok("run", "--name", "one", "--network", "none", "peers/app:1", "echo kept > /tmp/kept")
    empty.ok("commit", "-c", 'CMD ["cat /tmp/kept"]', "one", name)
    empty.ok("rm", "-v", "one")
    empty.ok("push", name)
    docker.ok("pull", "-q", name)
    assert docker.ok("run", "--rm", name) == "kept"
