"""Counting what a tree takes on disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from lamina.store.snapshots.driver import Usage

Counts = Callable[[str, os.stat_result], bool]


def usage_of(root: str, counts: Counts | None = None) -> Usage:
    """Walks a tree without following links; hard links count once.

    Args:
        root: a directory; it counts itself.
        counts: given the path below root and its stat, whether its content adds to `size`; default: all does.
    """
    top = os.lstat(root)
    size, disk, inodes = 0, top.st_blocks * 512, 1
    seen: set[tuple[int, int]] = set()
    pending = [root]
    prefix = len(root) + 1
    while pending:
        directory = pending.pop()
        try:
            entries = os.scandir(directory)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                mode = info.st_mode
                if stat.S_ISDIR(mode):
                    if info.st_dev == top.st_dev:
                        pending.append(entry.path)
                    else:
                        continue
                elif info.st_nlink > 1:
                    if (info.st_dev, info.st_ino) in seen:
                        continue
                    seen.add((info.st_dev, info.st_ino))
                inodes += 1
                disk += info.st_blocks * 512
                if stat.S_ISREG(mode) and (counts is None or counts(entry.path[prefix:], info)):
                    size += info.st_size
    return Usage(size, disk, inodes)
