"""How much a directory tree holds."""

from __future__ import annotations

import os

from lamina.layer.dirs import READ, DirCache
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Size of a tree.

    Attributes:
        bytes: logical bytes of everything but directories, hard links once: the size Docker shows.
        disk: bytes the file system allocated, directories included.
        inodes: files, directories (the root included) and everything else, hard links once.
    """

    bytes: int
    disk: int
    inodes: int


def tree_usage(root: str | int) -> Usage:
    """Measure the tree at `root` (path or descriptor); what vanishes meanwhile does not count."""
    root_fd = os.open(root, READ) if isinstance(root, str) else os.open(".", READ, dir_fd=root)
    cache = DirCache(root_fd)
    seen: set[tuple[int, int]] = set()
    total = 0
    status = os.fstat(root_fd)
    blocks = status.st_blocks
    inodes = 1
    pending = [""]
    try:
        while pending:
            path = pending.pop()
            cache.trim()
            try:
                here = cache.enter(path)
                fd = os.open(".", READ, dir_fd=here.fd)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                with os.scandir(fd) as listing:
                    for item in listing:
                        try:
                            status = item.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        if item.is_dir(follow_symlinks=False):
                            pending.append(here.join(item.name))
                        else:
                            if status.st_nlink > 1:
                                key = (status.st_dev, status.st_ino)
                                if key in seen:
                                    continue
                                seen.add(key)
                            total += status.st_size
                        blocks += status.st_blocks
                        inodes += 1
            finally:
                os.close(fd)
    finally:
        cache.clear()
        os.close(root_fd)
    return Usage(total, blocks * 512, inodes)
