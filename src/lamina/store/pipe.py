"""A bounded pipe of byte chunks between two threads."""

from __future__ import annotations

import threading
from collections import deque

from lamina.errors import Cancelled


class Pipe:
    """One thread writes chunks, another reads bytes; the writer waits while `limit` bytes are unread.

    Either end may fail: the other one then gets that error instead of waiting for ever.
    """

    def __init__(self, limit: int = 8 << 20) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None

    def write(self, data: bytes) -> None:
        """Adds a chunk.

        Raises:
            BaseException: what the reader failed with.
        """
        with self._changed:
            while self._size >= self._limit and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if data:
                self._chunks.append(data)
                self._size += len(data)
                self._changed.notify_all()

    def end(self) -> None:
        """No more chunks will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def fail(self, error: BaseException | None = None) -> None:
        """Breaks the pipe for both ends; the first reason counts."""
        with self._changed:
            if self._error is None:
                self._error = error or Cancelled("the transfer was given up")
            self._changed.notify_all()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, b"" at the end.

        Raises:
            BaseException: what the writer failed with.
        """
        with self._changed:
            while not self._chunks and not self._ended and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if 0 <= size < len(chunk):
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            self._size -= len(chunk)
            self._changed.notify_all()
            return chunk

    def close(self) -> None:
        """The reader is done; a writer that goes on gets an error."""
        self.fail()
