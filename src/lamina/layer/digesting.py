"""Hash bytes while they stream past.

hashlib releases the GIL for blocks over 2 KiB, so give these large chunks and run each stream in its own thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol


class Readable(Protocol):
    """A byte source: `read(n)` returns 1..n bytes, or b"" at the end."""

    def read(self, n: int, /) -> bytes:
        """Return at most `n` bytes; b"" means the end."""
        ...


Write = Callable[[bytes | bytearray | memoryview], object]
"""A byte sink: takes all bytes it is given, or raises."""


class HashingReader:
    """Pass a stream through and hash what was read.

    Attributes:
        size: bytes read so far.
    """

    def __init__(self, stream: Readable, algorithm: str = "sha256") -> None:
        self._read = stream.read
        self._hash = hashlib.new(algorithm)
        self.size = 0

    def read(self, n: int, /) -> bytes:
        """Return at most `n` bytes of the underlying stream."""
        data = self._read(n)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> str:
        """Lower-case hex digest of what was read so far."""
        return self._hash.hexdigest()


class HashingWriter:
    """Pass writes through and hash what was written.

    Attributes:
        size: bytes written so far.
    """

    def __init__(self, write: Write, algorithm: str = "sha256") -> None:
        self._write = write
        self._hash = hashlib.new(algorithm)
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Write and hash all of `data`; return its length in bytes."""
        self._write(data)
        self._hash.update(data)
        size = len(data)
        self.size += size
        return size

    @property
    def digest(self) -> str:
        """Lower-case hex digest of what was written so far."""
        return self._hash.hexdigest()


def drain(stream: Readable, chunk: int = 1 << 18) -> int:
    """Read a stream to its end; return the number of bytes that were left."""
    total = 0
    while data := stream.read(chunk):
        total += len(data)
    return total
