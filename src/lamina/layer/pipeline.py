"""Run one stage of a stream in its own thread: inflate and hash on one core while another writes files."""

from __future__ import annotations

import threading
from collections import deque

from lamina.layer.digesting import Readable


class ReadAhead:
    """Read a stream ahead in a background thread, within a bound.

    The inner `read` runs in the thread, so everything below it (network, inflate, digests) does too; look at their
    results only after `read` returned b"" here, or after `close`. Use as a context manager, or call `close`.
    """

    def __init__(self, stream: Readable, *, chunk: int = 256 * 1024, depth: int = 16) -> None:
        """Start reading.

        Args:
            stream: the source; only the thread touches it from now on.
            chunk: bytes asked of it at a time.
            depth: chunks held at most, so memory is bounded by `chunk * depth`.
        """
        self._stream = stream
        self._chunk = chunk
        self._depth = depth
        self._ready: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._rest = b""
        self._thread = threading.Thread(target=self._run, name="lamina-read-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while data := self._stream.read(self._chunk):
                with self._changed:
                    while len(self._ready) >= self._depth and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    self._ready.append(data)
                    self._changed.notify()
        except BaseException as raised:
            error = raised
        finally:
            with self._changed:
                self._error = error
                self._ended = True
                self._changed.notify()

    def read(self, n: int, /) -> bytes:
        """Return at most `n` bytes; raises what the inner stream raised, after the bytes before it were returned."""
        data = self._rest
        if not data:
            with self._changed:
                while not self._ready and not self._ended:
                    self._changed.wait()
                if not self._ready:
                    if self._error is not None:
                        raise self._error
                    return b""
                data = self._ready.popleft()
                self._changed.notify()
        if len(data) <= n:
            self._rest = b""
            return data
        self._rest = data[n:]
        return data[:n]

    def close(self) -> None:
        """Stop reading and wait for the thread; a read that blocks in the inner stream is waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._ready.clear()

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
