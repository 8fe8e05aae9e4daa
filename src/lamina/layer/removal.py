"""Remove trees by descriptor: no link is followed, and depth comes from the disk, not from a limit of ours."""

from __future__ import annotations

import os
from collections.abc import Callable

from lamina.layer.dirs import READ


def names_in(directory_fd: int) -> list[str]:
    """The names in a directory, which may be open by O_PATH."""
    fd = os.open(".", READ, dir_fd=directory_fd)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def empty(parent_fd: int, name: str, path: str, gone: Callable[[str], None]) -> None:
    """Delete the content of a directory, iteratively.

    Args:
        parent_fd: where the directory is.
        name: its name there.
        path: its canonical path below the root.
        gone: called with the canonical path of everything that was deleted.

    Raises:
        OSError: the system refused; a part is gone then.
    """
    stack: list[tuple[int, str, str, list[str]]] = []
    fd = os.open(name, READ, dir_fd=parent_fd)
    try:
        stack.append((fd, name, path, os.listdir(fd)))
        while stack:
            fd, name, path, names = stack[-1]
            if not names:
                os.close(stack.pop()[0])
                if stack:
                    os.rmdir(name, dir_fd=stack[-1][0])
                    gone(path)
                continue
            child = names.pop()
            child_path = f"{path}/{child}"
            try:
                os.unlink(child, dir_fd=fd)
                gone(child_path)
            except (IsADirectoryError, PermissionError):
                child_fd = os.open(child, READ, dir_fd=fd)
                stack.append((child_fd, child, child_path, os.listdir(child_fd)))
    finally:
        for each in stack:
            os.close(each[0])
