"""The state of a build as its events tell it; the renderers draw from it."""

from __future__ import annotations

from collections import deque

from lamina.build.progress import (
    BuildEvent,
    BuildWarning,
    VertexCached,
    VertexDone,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from lamina.values import dataclass, field

TAIL = 10  # log lines kept for the report on a failed vertex
MAX_PARTIAL = 64 << 10  # bytes of one line before it is broken


@dataclass(slots=True)
class Vertex:
    """One step.

    Attributes:
        index: from 1, by first appearance.
        name: as shown.
        started, ended: seconds on the renderer's clock; `ended` is None while it runs.
        duration: seconds of work, when ended.
        cached, canceled: how it ended.
        error: what failed, or "".
        items: measured parts, by name.
        begun, settled: when each part was first heard of, and when it was complete.
        tail: the last log lines, each with its seconds since the start.
    """

    index: int
    name: str
    started: float
    ended: float | None = None
    duration: float = 0.0
    cached: bool = False
    canceled: bool = False
    error: str = ""
    items: dict[str, VertexProgress] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    settled: dict[str, float] = field(default_factory=dict)
    tail: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=TAIL))
    partial: dict[str, bytes] = field(default_factory=dict)

    def lines(self, stream: str, data: bytes) -> list[str]:
        """Complete lines that `data` finishes; the rest waits for more."""
        *whole, rest = (self.partial.get(stream, b"") + data).split(b"\n")
        if b"\r" in rest:
            # A bar that redraws itself for hours is one line: only its present state has to be kept.
            rest = _overwritten(rest) + (b"\r" if rest.endswith(b"\r") else b"")
        while len(rest) > MAX_PARTIAL:
            whole.append(rest[:MAX_PARTIAL])
            rest = rest[MAX_PARTIAL:]
        self.partial[stream] = rest
        return [decode(line) for line in whole]

    def rest(self) -> list[str]:
        """Unfinished lines, at the end of the vertex."""
        rest = [decode(line) for line in self.partial.values() if line]
        self.partial.clear()
        return rest


def decode(line: bytes) -> str:
    """A log line as a terminal shows it in the end: a carriage return begins it anew."""
    return _overwritten(line).decode("utf-8", "replace")


def _overwritten(line: bytes) -> bytes:
    """What follows the last carriage return; those at the end have nothing to put in the line's place."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


class BuildState:
    """All vertices, in order of appearance."""

    def __init__(self) -> None:
        self.vertices: dict[str, Vertex] = {}
        self.warnings: list[BuildWarning] = []

    def vertex(self, id: str, name: str, now: float) -> Vertex:
        """The vertex of an id, made on first sight."""
        found = self.vertices.get(id)
        if found is None:
            found = self.vertices[id] = Vertex(len(self.vertices) + 1, name or id, now)
        elif name:
            found.name = name
        return found

    def apply(self, event: BuildEvent, now: float) -> tuple[Vertex | None, list[str]]:
        """Takes an event in.

        Returns:
            The vertex concerned, if any, and the log lines that the event completes.
        """
        if isinstance(event, BuildWarning):
            self.warnings.append(event)
            return None, []
        name = event.name if isinstance(event, VertexStarted | VertexCached) else ""
        vertex = self.vertex(event.id, name, now)
        lines: list[str] = []
        match event:
            case VertexStarted():
                if vertex.ended is not None:
                    vertex.started, vertex.ended = now, None
            case VertexCached():
                vertex.cached, vertex.ended = True, now
            case VertexDone():
                lines = vertex.rest()
                vertex.ended = now
                vertex.duration = now - vertex.started if event.duration is None else event.duration
                vertex.error, vertex.canceled = event.error, event.canceled
            case VertexLog():
                lines = vertex.lines(event.stream, event.data)
            case VertexProgress():
                vertex.items[event.item] = event
                vertex.begun.setdefault(event.item, now)
                if event.done:
                    vertex.settled[event.item] = now
        since = now - vertex.started
        vertex.tail.extend((since, line) for line in lines)
        return vertex, lines

    def counts(self) -> tuple[int, int]:
        """(ended, all) vertices."""
        return sum(vertex.ended is not None for vertex in self.vertices.values()), len(self.vertices)
