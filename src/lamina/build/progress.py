"""What a build reports while it runs: one small value per change of a vertex (a step of the build graph).

Workers emit these from any thread to the sink they were given; sinks are thread-safe and do not raise.
Times are the sink's business: an event means "now".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from lamina.values import dataclass

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class VertexStarted:
    """Work on a vertex began; the first event of its id. A second one after VertexDone means it runs again.

    Attributes:
        id: unique in the build; never shown.
        name: as shown (`[build 2/4] RUN make`, `[internal] load build context`).
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class VertexCached:
    """The vertex needs no work. Closes it; VertexStarted may be omitted when `name` is given."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class VertexDone:
    """The vertex ended.

    Attributes:
        id: as in VertexStarted.
        duration: seconds of work, or None to let the sink measure.
        error: one line on what failed; "" is success.
        canceled: it was given up because another vertex failed or the user interrupted.
    """

    id: str
    duration: float | None = None
    error: str = ""
    canceled: bool = False


@dataclass(frozen=True, slots=True)
class VertexLog:
    """Output of the vertex's process; `data` is any piece of the byte stream, not necessarily whole lines."""

    id: str
    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class VertexProgress:
    """A measured part of the vertex's work.

    Attributes:
        id: as in VertexStarted.
        item: what is measured (`transferring context:`, a layer digest, `exporting layers`).
        current: bytes (or units) so far, None when it has no measure.
        total: in all, None or 0 when unknown.
        done: the item is complete.
    """

    id: str
    item: str
    current: int | None = None
    total: int | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """A remark on the Dockerfile, shown after the build.

    Attributes:
        rule: name of the rule (`LegacyKeyValueFormat`), or "".
        message: one line.
        file: the Dockerfile as the user named it, or "".
        line: 1-based first line, or 0.
        source: the lines in question, for an excerpt.
        url: documentation, or "".
    """

    message: str
    rule: str = ""
    file: str = ""
    line: int = 0
    source: str = ""
    url: str = ""


BuildEvent = VertexStarted | VertexCached | VertexDone | VertexLog | VertexProgress | BuildWarning
BuildSink = Callable[[BuildEvent], None]


def discard(_event: BuildEvent) -> None:
    """A sink for callers that do not watch."""
