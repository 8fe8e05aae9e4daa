"""A faithful copy of a file tree: hard links, holes, extended attributes, devices, owners, modes and times."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from typing import Final

from lamina.store.snapshots.attributes import copy_attributes, copy_xattrs, set_owner

_FICLONE: Final = 0x40049409
_NO_CLONE: Final = frozenset(
    {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.ETXTBSY}
)


def copy_tree(source: str, target: str) -> None:
    """Copies everything below the directory `source` into the existing, empty directory `target`.

    Raises:
        OSError: the disk refuses; `target` then holds a part.
    """
    links: dict[tuple[int, int], str] = {}
    pending = [""]
    directories: list[str] = []
    while pending:
        below = pending.pop()
        directories.append(below)
        with os.scandir(source + below) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}"
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    os.mkdir(target + path, 0o700)
                    pending.append(path)
                    continue
                if info.st_nlink > 1:
                    first = links.setdefault((info.st_dev, info.st_ino), path)
                    if first is not path:
                        os.link(target + first, target + path, follow_symlinks=False)
                        continue
                copy_entry(source + path, target + path, info)
    # Children first: writing into a directory changes its times.
    for below in reversed(directories):
        copy_attributes(source + below, target + below)


def copy_entry(source: str, target: str, info: os.stat_result) -> None:
    """Copies anything but a directory, with all its attributes; `info` is what lstat(2) says of it."""
    mode = info.st_mode
    if stat.S_ISREG(mode):
        _copy_file(source, target, info)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISSOCK(mode):
        # A socket without its process is an empty name; mknod makes one.
        os.mknod(target, mode)
    else:
        os.mknod(target, mode, info.st_rdev)
    set_owner(target, info.st_uid, info.st_gid)
    if not stat.S_ISLNK(mode):
        os.chmod(target, stat.S_IMODE(mode))
    # After chown and chmod: both drop file capabilities.
    copy_xattrs(source, target)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def _copy_file(source: str, target: str, info: os.stat_result) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if info.st_size and not _clone(reader, writer):
                _copy_data(reader, writer, info.st_size)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _clone(reader: int, writer: int) -> bool:
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def _copy_data(reader: int, writer: int, size: int) -> None:
    """Copies the data regions and leaves the holes."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(reader, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                break
            raise
        end = os.lseek(reader, start, os.SEEK_HOLE)
        _copy_range(reader, writer, start, end)
        offset = end
    os.ftruncate(writer, size)


def _copy_range(reader: int, writer: int, start: int, end: int) -> None:
    while start < end:
        try:
            done = os.copy_file_range(reader, writer, end - start, start, start)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            done = 0
        if done == 0:
            data = os.pread(reader, min(end - start, 1 << 20), start)
            if not data:
                return
            view = memoryview(data)
            while view:
                count = os.pwrite(writer, view, start)
                view, start = view[count:], start + count
            continue
        start += done
    with suppress(OSError):
        os.lseek(writer, 0, os.SEEK_END)
