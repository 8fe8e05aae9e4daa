"""A second view of a file tree: directories of its own, the same files by hard links."""

from __future__ import annotations

import errno
import os
from typing import Final

from lamina.build.ops.tree import Entry, SourceTree

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Too many links, or none allowed (hard link protection in a user namespace): the file is copied.
_COPIED: Final = frozenset({errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP})


def link_tree(source: str, target: str) -> None:
    """Show everything below the directory `source` in the existing, empty directory `target`, too.

    Neither tree may be written to afterwards: the files are shared.

    Raises:
        OSError: the disk refuses; `target` then holds a part.
    """
    levels = [("", os.open(target, _DIRECTORY), 0)]
    try:
        with SourceTree(source) as tree:
            for entry in tree.walk():
                if not entry.relative:
                    continue
                parent, _, name = entry.relative.rpartition("/")
                while levels[-1][0] != parent:
                    _close(*levels.pop())
                if entry.is_directory:
                    levels.append((entry.relative, _directory(entry, levels[-1][1], name), entry.facts.st_mtime_ns))
                else:
                    _link(entry, levels[-1][1], name)
        while len(levels) > 1:
            _close(*levels.pop())
    finally:
        for _, fd, _ in levels:
            os.close(fd)


def _close(_path: str, fd: int, mtime_ns: int) -> None:
    """Leave a directory: its time is set last, since every entry changes it."""
    try:
        os.utime(fd, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(fd)


def _directory(entry: Entry, parent: int, name: str) -> int:
    from lamina.store.snapshots.attributes import copy_attributes

    os.mkdir(name, 0o700, dir_fd=parent)
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        copy_attributes(f"/proc/self/fd/{entry.directory_fd}/{entry.name}", f"/proc/self/fd/{parent}/{name}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _link(entry: Entry, parent: int, name: str) -> None:
    try:
        os.link(entry.name, name, src_dir_fd=entry.directory_fd, dst_dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _COPIED:
            raise
        from lamina.store.snapshots.copytree import copy_entry

        copy_entry(f"/proc/self/fd/{entry.directory_fd}/{entry.name}", f"/proc/self/fd/{parent}/{name}", entry.facts)
