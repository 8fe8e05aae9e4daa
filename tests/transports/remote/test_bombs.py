"""Layers that grow without end: the pull says so in one line, and nothing of them stays on the disk (threat 9).

Half a gigabyte of any layer is let through before its ratio counts, which makes two of them soaks.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import zstandard

from lamina.image.partial import MadeImage, MadeLayer
from lamina.spec import mediatype
from lamina.spec.config import ImageConfig, RunConfig
from lamina.spec.digest import Digest
from lamina.testing import evil_tar
from lamina.testing.commandline import CommandLine
from lamina.testing.hostile_registry import HostileServer, ScriptedRegistry, serving
from lamina.testing.images import AMD64

GIB = 1 << 30
HEADER = evil_tar.raw_header(b"zeros", size=evil_tar.base256(10 * GIB, 12))


def gzip_bomb() -> bytes:
    return gzip.compress(HEADER) + evil_tar.zeros_gzip(1 << 26) * 160


def zstd_bomb() -> bytes:
    return zstandard.ZstdCompressor().compress(HEADER) + evil_tar.zeros_zstd(10 * GIB)


def sparse_bomb() -> bytes:
    records = [(b"GNU.sparse.map", b"0,4"), (b"GNU.sparse.size", b"%d" % (10 * GIB))]
    return gzip.compress(evil_tar.archive(evil_tar.pax(records), evil_tar.file(b"zeros")))


BOMBS = {
    "zstd": (zstd_bomb, mediatype.OCI_LAYER_ZSTD, "layer expands more than 250 times"),
    "sparse": (sparse_bomb, mediatype.OCI_LAYER_GZIP, "entry 'zeros' brings sparse holes to "),
    "gzip": (gzip_bomb, mediatype.OCI_LAYER_GZIP, "layer expands more than 250 times"),
}


def disk(folder: Path) -> int:
    """Bytes that files below a folder take."""
    return sum(
        os.stat(f"{where}/{name}", follow_symlinks=False).st_blocks * 512
        for where, _folders, names in os.walk(folder)
        for name in names
    )


def publish(server: HostileServer, registry: ScriptedRegistry, blob: bytes, media_type: str, diff_id: Digest) -> str:
    """Put an image of one layer there; its name."""
    layer = MadeLayer.of(blob, diff_id=diff_id, media_type=media_type)
    config = ImageConfig.make(platform=AMD64, config=RunConfig(), diff_ids=(diff_id,))
    image = MadeImage(config, [layer])
    tag = layer.descriptor.digest.hex[:12]
    registry.manifests[f"app:{tag}"] = (image.manifest.raw, image.manifest.media_type)
    registry.blobs[str(layer.descriptor.digest)] = blob
    registry.blobs[str(config.id)] = config.raw
    return f"{server.authority}/app:{tag}"


@pytest.mark.parametrize("kind", ["sparse", *(pytest.param(kind, marks=pytest.mark.soak) for kind in ("zstd", "gzip"))])
def test_a_bomb_is_refused_in_one_line_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    lamina, registry = CommandLine(tmp_path), ScriptedRegistry()
    make, media_type, limit = BOMBS[kind]
    with serving(registry) as server:
        harmless = evil_tar.archive(evil_tar.file(b"fine"))
        twin = publish(server, registry, gzip.compress(harmless), mediatype.OCI_LAYER_GZIP, Digest.of(harmless))
        lamina.ok("pull", "-q", twin)
        before = disk(lamina.root)
        refused = lamina("pull", "-q", publish(server, registry, make(), media_type, Digest.of(b"never seen")))
    assert refused.status == 1
    said, *hint = refused.err.splitlines()
    assert (refused.out, limit in said, len(hint)) == ("", True, 1), refused.err
    assert hint[0].startswith("Hint: no real layer is known to need more")
    assert disk(lamina.root) - before < 16 << 20
    assert lamina.ok("images", "-q") == lamina.ok("images", "-q", twin)
    lamina.ok("fsck")
