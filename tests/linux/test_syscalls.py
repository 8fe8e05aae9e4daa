"""The calls that os lacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.linux import syscalls


def test_openat2_in_root_keeps_links_inside(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("inside")
    (tmp_path / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "up").symlink_to("../../../../etc/passwd")
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        for name in ("absolute", "up", "/etc/passwd", "../etc/passwd"):
            fd = syscalls.openat2(directory, name, os.O_RDONLY, resolve=syscalls.RESOLVE_IN_ROOT)
            with os.fdopen(fd) as file:
                assert file.read() == "inside"
        with pytest.raises(syscalls.SyscallFailed, match="openat2 up"):
            syscalls.openat2(directory, "up", os.O_RDONLY, resolve=syscalls.RESOLVE_BENEATH)
    finally:
        os.close(directory)


def test_syncfs_and_its_error(tmp_path: Path):
    fd = os.open(tmp_path, os.O_RDONLY)
    syscalls.syncfs(fd)
    os.close(fd)
    with pytest.raises(OSError, match="syncfs") as caught:
        syscalls.syncfs(fd)
    assert caught.value.errno == 9


def test_close_range_marks_inheritable_descriptors():
    fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(fd, True)
    syscalls.close_range(fd, fd, syscalls.CLOSE_RANGE_CLOEXEC)
    assert not os.get_inheritable(fd)
    os.close(fd)
