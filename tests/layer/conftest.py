"""Shared set-up of the layer tests."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamina.layer.apply import Applied, WhiteoutMode, apply_layer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty directory to unpack into."""
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def overlay(root: Path) -> Callable[..., Applied]:
    """Apply archive bytes to `root` as an isolated upper directory."""
    return lambda data, **options: apply_layer(io.BytesIO(data), str(root), whiteouts=WhiteoutMode.OVERLAY, **options)


@pytest.fixture
def merged(root: Path) -> Callable[..., Applied]:
    """Apply archive bytes on top of what `root` holds."""
    return lambda data, **options: apply_layer(io.BytesIO(data), str(root), whiteouts=WhiteoutMode.REMOVE, **options)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount an overlay; the mounts go away with the test."""
    if os.geteuid() != 0:
        pytest.skip("mounting an overlay needs root")
    if "overlay" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no overlayfs")
    made: list[Path] = []

    def do(lowers: list[Path], upper: Path | None = None) -> Path:
        point = tmp_path / f"mnt{len(made)}"
        point.mkdir()
        if upper is None and len(lowers) == 1:  # the kernel wants two layers
            empty = tmp_path / f"empty{len(made)}"
            empty.mkdir()
            lowers = [*lowers, empty]
        options = "lowerdir=" + ":".join(map(str, lowers))
        if upper is not None:
            work = tmp_path / f"work{len(made)}"
            work.mkdir()
            options += f",upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(point)], check=True)
        made.append(point)
        return point

    yield do
    for point in reversed(made):
        subprocess.run(["umount", str(point)], check=True)
