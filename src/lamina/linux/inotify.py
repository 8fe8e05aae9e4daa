"""Waiting for files to appear, change or go, without polling (inotify(7))."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from types import TracebackType
from typing import Final

from lamina.linux.syscalls import SyscallFailed

MODIFY: Final = 0x2
CLOSE_WRITE: Final = 0x8
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
_EVENT: Final = struct.Struct("=iIII")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Watches files and directories until closed."""

    def __init__(self) -> None:
        self.fd = int(_LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self.fd < 0:
            raise SyscallFailed(ctypes.get_errno(), "inotify_init1", "")

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def add(self, path: str, mask: int) -> None:
        """Watches a path for the events of `mask`.

        Raises:
            SyscallFailed: ENOENT when it does not exist.
        """
        if _LIBC.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask)) < 0:
            raise SyscallFailed(ctypes.get_errno(), "inotify_add_watch", path)

    def wait(self, seconds: float | None = None) -> int:
        """Waits for something to happen.

        Returns:
            The masks of all that happened, joined; 0 when time ran out.
        """
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        if not poll.poll(None if seconds is None else max(0, int(seconds * 1000))):
            return 0
        happened = 0
        data = os.read(self.fd, 1 << 16)
        while len(data) >= _EVENT.size:
            _watch, mask, _cookie, length = _EVENT.unpack_from(data)
            happened |= mask
            data = data[_EVENT.size + length :]
        return happened
