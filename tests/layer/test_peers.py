"""The same layers unpacked by umoci and by lamina (OCI image-spec, layer.md)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lamina.layer.apply import WhiteoutMode, apply_layer
from lamina.layer.compression import Compression, compressor
from lamina.layer.diff import changes_trees, write_layer, write_tree
from lamina.testing.evil_tar import archive, directory, file, hardlink, symlink, tree_state

pytestmark = [
    pytest.mark.peer,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed"),
]


def blob(layout: Path, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def umoci_unpack(layers: list[bytes], tmp_path: Path) -> Path:
    layout = tmp_path / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    descriptors = []
    for data in layers:
        out = io.BytesIO()
        packer = compressor(Compression.GZIP, out.write)
        packer.write(data)
        packer.close()
        descriptors.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **blob(layout, out.getvalue())})
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **blob(layout, json.dumps(config).encode()),
        },
        "layers": descriptors,
    }
    entry = {"mediaType": manifest["mediaType"], **blob(layout, json.dumps(manifest).encode())}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    subprocess.run(
        ["umoci", "unpack", "--image", f"{layout}:t", str(tmp_path / "bundle")], check=True, capture_output=True
    )
    return tmp_path / "bundle/rootfs"


def assert_same(layers: list[bytes], tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    for data in layers:
        apply_layer(io.BytesIO(data), str(ours), whiteouts=WhiteoutMode.REMOVE)
    theirs = umoci_unpack(layers, tmp_path)
    left, right = (
        {path: state for path, state in tree_state(str(root), times=False).items() if path} for root in (ours, theirs)
    )
    assert left == right


def test_whiteouts_and_links(tmp_path: Path) -> None:
    assert_same(
        [
            archive(
                directory(b"a"),
                file(b"a/one"),
                file(b"a/two"),
                directory(b"b"),
                file(b"b/x"),
                symlink(b"run", b"/a"),
                file(b"c"),
            ),
            archive(
                file(b"a/.wh.one", b""),
                directory(b"b"),
                file(b"b/.wh..wh..opq", b""),
                file(b"b/y"),
                hardlink(b"b/z", b"b/y"),
                file(b".wh.c", b""),
            ),
            archive(file(b"run/inside"), file(b"b", b"a file now"), directory(b"c", 0o700)),
        ],
        tmp_path,
    )


def test_our_own_layers(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "d/e").mkdir(parents=True)
    (old / "d/e/f").write_text("f")
    (old / "gone").write_text("g")
    os.setxattr(old / "d", "user.note", b"1")
    shutil.copytree(old, new)
    (new / "gone").unlink()
    (new / ("long" * 60)).write_text("long")
    (new / "d/ünï").symlink_to("t" * 200)
    os.link(new / "d/e/f", new / "hard")
    os.chown(new / "hard", 3_000_000, 5)
    base, top = io.BytesIO(), io.BytesIO()
    write_tree(base.write, str(old))
    write_layer(top.write, str(new), changes_trees(str(old), str(new)))
    assert_same([base.getvalue(), top.getvalue()], tmp_path)
