"""OCI image layouts, written and read by us and by skopeo and umoci (image-layout.md)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lamina.errors import Integrity, NotFound
from lamina.image.copy import CopyOptions, copy
from lamina.image.protocols import is_index
from lamina.image.validate import validate
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.testing.images import ARM64, random_image, random_index
from lamina.transports.layout import Layout, NoSuchImage, NotALayout

Run = Callable[..., bytes]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.create(str(tmp_path / "layout"))


def test_an_image_goes_in_and_comes_out_unchanged(layout: Layout) -> None:
    image = random_image(1)
    put = copy(image, layout.sink("one"))
    found = Layout.open(layout.path).image("one")
    assert not is_index(found)
    assert (found.manifest.raw, put.digest) == (image.manifest.raw, image.manifest.digest)
    validate(found)
    assert layout.image(str(put.digest)) is not None
    assert layout.image() is not None


def test_a_name_moves_to_the_newer_image(layout: Layout) -> None:
    copy(random_image(1), layout.sink("x"))
    copy(random_image(2), layout.sink("x"))
    copy(random_image(3), layout.sink("y"))
    found = layout.image("x")
    assert not is_index(found)
    assert found.manifest.digest == random_image(2).manifest.digest
    with pytest.raises(NoSuchImage):
        layout.image()
    assert layout.remove("x")
    assert not layout.remove("x")
    assert layout.image() is not None


def test_an_index_is_stored_whole_or_one_platform_of_it(layout: Layout) -> None:  # A22
    index = random_index(1)
    copy(index, layout.sink("all"))
    validate(layout.image("all"))
    copy(index, layout.sink("arm"), CopyOptions(platform=ARM64))
    found = layout.image("arm")
    assert not is_index(found)
    assert found.config.platform == ARM64
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
        copy(index, layout.sink("s"), CopyOptions(platform=Platform("linux", "s390x")))


def test_an_index_may_stay_sparse(tmp_path: Path) -> None:
    index = random_index(1)
    layout = Layout.create(str(tmp_path / "sparse"))
    put = copy(index, layout.sink("x"), CopyOptions(platform=ARM64, keep_index=True))
    assert put.digest == index.index.digest
    found = layout.image("x")
    validate(found, sparse=True)
    with pytest.raises(Integrity):
        validate(found)
    with pytest.raises(NotFound):
        copy(found, Layout.create(str(tmp_path / "b")).sink("x"))
    kept = copy(found, Layout.create(str(tmp_path / "c")).sink("x"), CopyOptions(missing="skip"))
    assert kept.digest == index.index.digest


def test_writers_do_not_lose_each_other(layout: Layout) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: copy(random_image(number), layout.sink(f"n{number}")), range(16)))
    assert len(layout.entries()) == 16


def test_nothing_but_a_layout_is_opened(tmp_path: Path) -> None:
    with pytest.raises(NotALayout):
        Layout.open(str(tmp_path))
    (tmp_path / "something").write_text("precious")
    with pytest.raises(NotALayout):
        Layout.create(str(tmp_path))
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(NotALayout):
        Layout.open(str(tmp_path))


def test_a_wrong_blob_is_found(layout: Layout) -> None:  # threat 10
    image = random_image(1)
    copy(image, layout.sink("x"))
    blob = Path(layout.path, "blobs", "sha256", image.layers[0].descriptor.digest.hex)
    raw = bytearray(blob.read_bytes())
    raw[50] ^= 1
    blob.write_bytes(raw)
    with pytest.raises(Integrity):
        validate(layout.image("x"))


def test_a_blob_that_is_no_file_does_not_block(layout: Layout) -> None:
    image = random_image(1)
    copy(image, layout.sink("x"))
    blob = Path(layout.path, "blobs", "sha256", image.layers[0].descriptor.digest.hex)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(NotALayout):
        layout.image("x").layers[0].open()  # type: ignore[union-attr]


@pytest.mark.peer
def test_skopeo_copies_our_layout_and_we_read_its_copy(layout: Layout, tmp_path: Path, skopeo: Run) -> None:
    for name, content in (("image", random_image(1)), ("docker", random_image(2, docker=True))):
        put = copy(content, layout.sink(name, oci_only=True))
        seen = skopeo("inspect", "--raw", f"oci:{layout.path}:{name}")
        assert Digest.of(seen) == put.digest
        assert (put.digest == content.manifest.digest) == (name == "image")
        skopeo("copy", f"oci:{layout.path}:{name}", f"oci:{tmp_path}/theirs:{name}")
        validate(Layout.open(f"{tmp_path}/theirs").image(name))
    index = random_index(3)
    copy(index, layout.sink("all"))
    skopeo("copy", "--all", f"oci:{layout.path}:all", f"oci:{tmp_path}/theirs:all")
    found = Layout.open(f"{tmp_path}/theirs").image("all")
    assert is_index(found)
    assert found.index.raw == index.index.raw
    validate(found)


@pytest.mark.peer
@pytest.mark.root
def test_umoci_unpacks_our_layout_and_we_read_its_image(layout: Layout, tmp_path: Path) -> None:
    if shutil.which("umoci") is None or os.geteuid() != 0:
        pytest.skip("umoci, as root, is not available")
    image = random_image(4)
    copy(image, layout.sink("x"))
    bundle = str(tmp_path / "bundle")
    subprocess.run(["umoci", "unpack", "--image", f"{layout.path}:x", bundle], check=True, capture_output=True)
    assert sorted(os.listdir(f"{bundle}/rootfs")) == ["file-4000", "file-4001"]
    Path(bundle, "rootfs", "new").write_text("from umoci")
    subprocess.run(["umoci", "repack", "--image", f"{layout.path}:y", bundle], check=True, capture_output=True)
    found = layout.image("y")
    assert not is_index(found)
    assert len(found.layers) == 3
    validate(found)
    assert json.loads(Path(layout.path, "index.json").read_bytes())["schemaVersion"] == 2
