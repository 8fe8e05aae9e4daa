"""Real clients push to the registry and pull the same bytes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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
