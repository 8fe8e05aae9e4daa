"""Locks between processes and threads, one for each key, that die with their holder (F3, F8).

flock(2) belongs to an open file, so a killed process lets go at once and the next waiter takes over. The lock file is
removed by its last holder; a waiter that got the lock of a removed file tries again on the new one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lamina.errors import Cancelled
from lamina.store import paths
from lamina.store.files import Files, raise_typed

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05


@contextmanager
def directory(path: str) -> Iterator[None]:
    """Holds the lock of a directory itself for the block, waiting for it; it leaves no file.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


class KeyLocks:
    """Exclusive locks by kind and key, in one directory."""

    def __init__(self, directory: str, files: Files) -> None:
        self._directory, self._files = directory, files

    @contextmanager
    def hold(
        self,
        kind: str,
        key: str,
        *,
        waiting: Callable[[], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[None]:
        """Holds the lock of a key for the block, waiting for it as long as it takes.

        Args:
            kind: a namespace of keys.
            key: any text.
            waiting: called once when somebody else holds the lock.
            cancelled: asked again and again; True ends the wait.

        Raises:
            Cancelled: `cancelled` said so first.
            StoreFull, StoreIOFailed: no lock file can be made.
        """
        path = paths.lock_file(self._directory, kind, key)
        fd = self._wait(path, waiting, cancelled)
        try:
            yield
        finally:
            _release(path, fd)

    @contextmanager
    def attempt(self, kind: str, key: str) -> Iterator[bool]:
        """Holds the lock for the block if nobody else does; the value says whether it is held."""
        path = paths.lock_file(self._directory, kind, key)
        fd = self._try(path)
        try:
            yield fd is not None
        finally:
            if fd is not None:
                _release(path, fd)

    def _wait(self, path: str, waiting: Callable[[], None] | None, cancelled: Callable[[], bool] | None) -> int:
        pause = _FIRST_PAUSE
        while (fd := self._try(path)) is None:
            if waiting is not None:
                waiting()
                waiting = None
            if cancelled is not None and cancelled():
                raise Cancelled(f"gave up waiting for {os.path.basename(path)}")
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return fd

    def _try(self, path: str) -> int | None:
        while True:
            try:
                fd = self._files.create(path)
            except OSError as error:
                raise_typed(path, error)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same(fd, path):
                    return fd
            except OSError as error:
                os.close(fd)
                if error.errno in {errno.EWOULDBLOCK, errno.EINTR}:
                    return None
                raise_typed(path, error)
            os.close(fd)


def _same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _release(path: str, fd: int) -> None:
    with suppress(OSError):
        os.unlink(path)
    os.close(fd)
