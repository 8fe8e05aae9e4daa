"""Brings an archive from wherever it comes into a seekable, uncompressed file: often the file itself, else a spool."""

from __future__ import annotations

import os
import stat
import tempfile
from typing import Final

from lamina.image.protocols import Readable
from lamina.layer.compression import Compression, decompress, detect
from lamina.layer.limits import Limits

_CHUNK: Final = 1 << 20
#: An image archive is bigger than a layer, and xz squeezes sparse file systems hard.
_LIMITS: Final = Limits(max_bytes=1 << 41, max_ratio=2000)


class _Prefixed:
    """A stream with some bytes put back in front."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


class _Fd:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int = -1, /) -> bytes:
        return os.read(self._fd, size if size >= 0 else _CHUNK)

    def close(self) -> None:
        """The caller's."""


def seekable(path: str, spool_dir: str) -> int:
    """A descriptor of the archive at `path`, decompressed into `spool_dir` where needed.

    Raises:
        BadStream, LayerLimit: a damaged or hostile compressed stream.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) and detect(os.pread(fd, 6, 0)) is Compression.NONE:
            return fd
        spooled = spool(_Fd(fd), spool_dir)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return spooled


def spool(stream: Readable, spool_dir: str) -> int:
    """A descriptor of an unnamed file in `spool_dir` with the stream's uncompressed bytes."""
    head = b""
    while len(head) < 6 and (more := stream.read(6 - len(head))):
        head += more
    source = decompress(_Prefixed(head, stream), limits=_LIMITS)
    os.makedirs(spool_dir, exist_ok=True)
    with tempfile.TemporaryFile(dir=spool_dir, buffering=0) as file:
        while data := source.read(_CHUNK):
            view = memoryview(data)
            while view:
                view = view[file.write(view) or 0 :]
        return os.dup(file.fileno())
