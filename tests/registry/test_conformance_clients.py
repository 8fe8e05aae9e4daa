"""Real clients push to the registry and pull the same bytes back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from lamina.testing.registry import running_registry

pytestmark = pytest.mark.peer


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def blobs(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An OCI layout with one image of one layer."""
    if shutil.which("umoci") is None:
        pytest.skip("not installed: umoci")
    source, content = tmp_path / "layout", tmp_path / "content"
    content.mkdir()
    (content / "hello").write_bytes(os.urandom(300_000))
    run("umoci", "init", "--layout", str(source))
    run("umoci", "new", "--image", f"{source}:one")
    run("umoci", "insert", "--rootless", "--image", f"{source}:one", str(content), "/content")
    run("umoci", "gc", "--layout", str(source))
    return source


@needs("skopeo")
def test_skopeo_pushes_and_pulls_the_same_bytes(layout: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    with running_registry(str(tmp_path / "root")) as address:
        image = f"docker://{address}/team/app:v1"
        run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:one", image)
        run("skopeo", "copy", "--src-tls-verify=false", image, f"oci:{back}:one")
        shown = json.loads(run("skopeo", "inspect", "--tls-verify=false", image))
        tags = json.loads(run("skopeo", "list-tags", "--tls-verify=false", f"docker://{address}/team/app"))
    assert blobs(back) == blobs(layout)
    assert shown["Digest"] == json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    assert tags["Tags"] == ["v1"]


@needs("skopeo")
def test_skopeo_copies_every_platform_of_an_index(layout: Path, tmp_path: Path) -> None:
    """Two images under one index, in OCI's and, converted by skopeo, in Docker's types."""
    index = json.loads((layout / "index.json").read_bytes())
    image = index["manifests"][0]
    for key in ("annotations", "platform"):
        image.pop(key, None)
    arm = image | {"platform": {"os": "linux", "architecture": "arm64"}}
    amd = image | {"platform": {"os": "linux", "architecture": "amd64"}}
    raw = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [amd, arm]}
    ).encode()
    name = hashlib.sha256(raw).hexdigest()
    (layout / "blobs" / "sha256" / name).write_bytes(raw)
    nested = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": f"sha256:{name}", "size": len(raw)}
    nested["annotations"] = {"org.opencontainers.image.ref.name": "multi"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [nested]}), encoding="utf-8")
    back = tmp_path / "back"
    with running_registry(str(tmp_path / "root")) as address:
        image_name = f"docker://{address}/team/multi:v1"
        copy = ("skopeo", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false")
        run(*copy, f"oci:{layout}:multi", image_name)
        assert run("skopeo", "inspect", "--raw", "--tls-verify=false", image_name).encode() == raw
        run(*copy, image_name, f"oci:{back}:multi")
        run(*copy, "--format", "v2s2", image_name, f"docker://{address}/team/docker:v1")
        converted = json.loads(
            run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{address}/team/docker:v1")
        )
    assert blobs(back) == blobs(layout)
    assert converted["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"


@needs("skopeo")
def test_skopeo_deletes(layout: Path, tmp_path: Path) -> None:
    # R12
    with running_registry(str(tmp_path / "root")) as address:
        image = f"docker://{address}/team/app:v1"
        run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:one", image)
        run("skopeo", "delete", "--tls-verify=false", image)
        assert json.loads(run("skopeo", "list-tags", "--tls-verify=false", image.removesuffix(":v1")))["Tags"] == []


@needs("podman")
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="podman's storage needs root")
def test_podman_pushes_and_pulls(layout: Path, tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(
            prefix="lamina-podman-"
        ) as short,  # podman takes run roots of 50 characters at most
        running_registry(str(tmp_path / "root")) as address,
    ):
        storage = ("--root", f"{short}/s", "--runroot", f"{short}/r", "--storage-driver", "vfs")
        image = f"{address}/team/app:v1"
        pulled = run("podman", *storage, "pull", "-q", f"oci:{layout}:one").strip()
        run("podman", *storage, "push", "-q", "--tls-verify=false", pulled, image)
        run("podman", *storage, "rmi", "-a", "-f")
        run("podman", *storage, "pull", "-q", "--tls-verify=false", image)
        assert run("podman", *storage, "image", "inspect", "--format", "{{.Id}}", image).strip() == pulled
