"""A small root file system from busybox-static, and the tools that tests of containers need."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from lamina.linux import mounts
from lamina.testing import leftovers
from lamina.testing.container_store import ContainerStore, host_rules

_BUSYBOX = "/bin/busybox"


@pytest.fixture(scope="session")
def busybox_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read-only image content that every test mounts below its own upper directory."""
    root = tmp_path_factory.mktemp("busybox")
    for name in ("bin", "etc", "tmp", "root", "data"):
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    shutil.copy(_BUSYBOX, root / "bin/busybox")
    applets = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nadm:x:4:bob,web\nweb:x:33:\naudio:x:29:bob\nbob:x:1000:\n")
    (root / "data/seed").write_text("from the image\n")
    os.chown(root / "data/seed", 33, 33)
    return root


@pytest.fixture
def rootfs(busybox_layer: Path, tmp_path: Path):
    """A writable overlay of the busybox layer; nothing of it stays mounted."""
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    overlay = mounts.Overlay(
        (str(busybox_layer),), str(tmp_path / "merged"), str(tmp_path / "upper"), str(tmp_path / "work")
    )
    overlay.execute()
    yield tmp_path / "merged"
    for point in reversed(mounts.mount_points(str(tmp_path))):
        mounts.Unmount(point, detach=True).execute()


@pytest.fixture
def run_root():
    """A short-lived state directory; short, because sockets live in it (unix(7): 108 bytes)."""
    with tempfile.TemporaryDirectory(prefix="lamina-rt-", dir="/tmp") as path:
        yield Path(path)
        for point in reversed(mounts.mount_points(path)):
            mounts.Unmount(point, detach=True).execute()
        # conmon tells of a container's end after the test has: what it starts would make the directory anew
        assert list(leftovers.still_running([path])) == []


@pytest.fixture
def store(busybox_layer: Path, tmp_path: Path, run_root: Path):
    """Containers of a store of the test's own; at its end nothing of them may be left on the machine."""
    made = ContainerStore(busybox_layer, tmp_path, run_root)
    yield made
    assert made.close() == []
    assert host_rules(made.paths.nft_table) == ""
