"""From what the solver tells to what a transcript shows, and the tail of each step's output for the error report."""

from __future__ import annotations

import threading
from collections import deque
from typing import cast

from lamina.build.graph.vertex import Vertex
from lamina.build.progress import BuildSink, Stream, VertexCached, VertexDone, VertexLog, VertexProgress, VertexStarted
from lamina.errors import Cancelled

_STREAMS: dict[int, Stream] = {1: "stdout", 2: "stderr"}
_TAIL_BYTES = 64 << 10


class Transcript:
    """An observer of the solver that feeds a sink of build events."""

    def __init__(self, sink: BuildSink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._begun: set[str] = set()  # lines of several vertices
        self._tails: dict[str, deque[bytes]] = {}
        self._sizes: dict[str, int] = {}

    def started(self, vertex: object) -> None:
        """The vertex began to run."""
        one = cast("Vertex", vertex)
        if not one.shown:
            return
        with self._lock:
            begun = one.step in self._begun
            if one.step:
                self._begun.add(one.step)
        if not begun:
            self._sink(VertexStarted(_line(one), one.name))

    def cached(self, vertex: object) -> None:
        """The vertex was answered from the cache; of a line of several, only the last one says so."""
        one = cast("Vertex", vertex)
        if one.last and one.shown:
            self._sink(VertexCached(_line(one), one.name))

    def log(self, vertex: object, stream: int, data: bytes) -> None:
        """The running vertex wrote something; its last 64 KiB are kept."""
        key = _line(cast("Vertex", vertex))
        with self._lock:
            tail = self._tails.setdefault(key, deque())
            tail.append(data)
            size = self._sizes.get(key, 0) + len(data)
            while size - len(tail[0]) >= _TAIL_BYTES:
                size -= len(tail.popleft())
            self._sizes[key] = size
        self._sink(VertexLog(key, _STREAMS[stream], data))

    def progress(self, vertex: object, item: str, current: int, done: bool) -> None:
        """The running vertex measured a part of its work."""
        self._sink(VertexProgress(_line(cast("Vertex", vertex)), item, current, done=done))

    def finished(self, vertex: object, error: BaseException | None) -> None:
        """The vertex ended."""
        one = cast("Vertex", vertex)
        key = _line(one)
        if not one.shown:
            return
        if error is None:
            if one.last:
                self._sink(VertexDone(key))
        else:
            self._sink(VertexDone(key, error=str(error), canceled=isinstance(error, Cancelled)))

    def tail(self, vertex: Vertex) -> str:
        """The end of what a vertex wrote."""
        with self._lock:
            data = b"".join(self._tails.get(_line(vertex), ()))
        return data[-_TAIL_BYTES:].decode("utf-8", "replace")


def _line(vertex: Vertex) -> str:
    """The id of the line that shows a vertex."""
    return vertex.step or str(vertex.digest)
