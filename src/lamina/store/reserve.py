"""Space set aside for cleaning up: deleting takes a little room in the index, even on a full disk (F6)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from lamina.store.files import Files

SIZE: Final = 2 << 20
_LOW: Final = 4 << 20


class Reserve:
    """A file that does nothing but take space, given up while something is removed."""

    def __init__(self, path: str, files: Files) -> None:
        self._path, self._files = path, files

    def fill(self) -> None:
        """Takes the space; does nothing when there is none to take."""
        with suppress(OSError):
            fd = self._files.create(self._path)
            try:
                if os.fstat(fd).st_size < SIZE:
                    os.posix_fallocate(fd, 0, SIZE)
            except OSError:
                os.ftruncate(fd, 0)
            finally:
                os.close(fd)

    @contextmanager
    def released(self) -> Iterator[None]:
        """For the block, gives the space up if the disk is nearly full; takes it again afterwards if there is any."""
        try:
            state = os.statvfs(os.path.dirname(self._path))
        except OSError:
            low = False
        else:
            low = state.f_bavail * state.f_frsize < _LOW or (state.f_files > 0 and state.f_favail < 16)
        if low:
            with suppress(OSError):
                self._files.unlink(self._path)
        try:
            yield
        finally:
            if low:
                self.fill()
