"""One change of a container at a time, over all processes: a lock file for each container."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def path_of(run_root: str, container_id: str) -> str:
    """The lock file of a container; who removes the container removes it, holding it."""
    return os.path.join(run_root, "locks", container_id)


@contextmanager
def attempting(run_root: str, container_id: str) -> Iterator[bool]:
    """Takes a container's lock for the block if nobody has it; says whether it did."""
    path = path_of(run_root, container_id)
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.fstat(fd).st_ino == os.stat(path).st_ino
        except (BlockingIOError, FileNotFoundError):
            free = False
        yield free
    finally:
        os.close(fd)


@contextmanager
def holding(run_root: str, container_id: str) -> Iterator[None]:
    """Waits for a container's lock and keeps it for the block."""
    path = path_of(run_root, container_id)
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    while True:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                break
        os.close(fd)  # removed with its container while we waited
    try:
        yield
    finally:
        os.close(fd)
