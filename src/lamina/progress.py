"""Progress as values: workers emit events, edges decide how they look.

Workers call the sink they were given from any thread; sinks must be thread-safe and must not raise.
The words of `status` are Docker's (`Pulling fs layer`, `Downloading`, `Pull complete`, ...), so that the
command line and the Engine API print the same events without translation.
"""

from __future__ import annotations

from collections.abc import Callable

from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long operation.

    Attributes:
        id: what it is about (a 12-hex layer id, a tag), or "" for the operation as a whole.
        status: Docker's words for the state.
        current: bytes done, or None when the state has no measure.
        total: bytes in all, or None when unknown.
        final: the id reached its last state.
    """

    id: str
    status: str
    current: int | None = None
    total: int | None = None
    final: bool = False


ProgressSink = Callable[[Progress], None]


def discard(_event: Progress) -> None:
    """A sink for callers that do not watch."""
