"""Multi-platform images as ordinary local objects: one line in `images`, safe from prune, saved and loaded whole (A22)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.image.copy import copy
from lamina.image.partial import Child, MadeIndex
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from lamina.store.store import Store
from lamina.testing.commandline import CommandLine
from lamina.testing.images import AMD64, ARM64, attestation_of, random_image
from lamina.transports.local.sink import LocalSink


@pytest.fixture
def lamina(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def load(lamina: CommandLine, name: str) -> MadeIndex:
    images = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
    index = MadeIndex([*(Child(image) for image in images), *(attestation_of(image) for image in images)])
    with Store.open(str(lamina.root)) as store, store.lease("test") as lease:
        copy(index, LocalSink(store, lease, names=[Reference.parse(name)], platform=Platform("linux", "amd64")))
    return index


def test_it_is_one_line_and_prune_leaves_it_whole(lamina: CommandLine):  # S44
    load(lamina, "multi:1")
    assert lamina.ok("images", "--format", "{{.Repository}}:{{.Tag}}") == "multi:1\n"
    assert lamina.ok("images", "-q", "-f", "dangling=true") == ""
    assert len(lamina.ok("images", "-aq").split()) == 2
    assert "Total reclaimed space: 0B" in lamina.ok("image", "prune", "-f")
    assert "Total reclaimed space: 0B" in lamina.ok("system", "prune", "-f")
    assert len(lamina.ok("images", "-aq").split()) == 2
    lamina.ok("rmi", "multi:1")
    assert lamina.ok("images", "-aq") == ""
    assert lamina.ok("fsck").endswith("clean\n")


def test_it_is_saved_and_loaded_byte_for_byte(lamina: CommandLine, tmp_path: Path):  # S41, C05, C11
    index = load(lamina, "multi:1")
    lamina.ok("save", "-o", "all.tar", "multi:1")
    lamina.ok("rmi", "multi:1")
    lamina.ok("load", "-i", "all.tar")
    with Store.open(str(lamina.root)) as store:
        assert store.lookup.find("multi:1").target == index.index.digest
        assert store.images.complete(index.index.digest)
