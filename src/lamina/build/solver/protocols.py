"""What the solver needs from operations and caches.

Keys. Every vertex has a key that names its result. An operation offers a *definition key*, made from its own
definition and the keys of its inputs, and may say that the *content* of some inputs decides instead (a COPY sees only
the files it selects). The solver looks a definition key up first, because that costs nothing; only on a miss does it
make the inputs whose content matters and asks for the content key, which can still hit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from typing import Generic, Protocol, TypeVar

from lamina.spec.digest import Digest
from lamina.values import dataclass

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: Receives (stream, bytes) while an operation runs; stream 1 is stdout, 2 is stderr.
LogSink = Callable[[int, bytes], None]

#: Receives (what is measured, how much so far, whether that is all).
ProgressSink = Callable[[str, int, bool], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What a running operation may use: its log, the flag that tells it to stop, and who is told how far it got."""

    log: LogSink
    cancelled: Event
    progress: ProgressSink


class Op(Protocol[R]):
    """An operation bound to its means."""

    def definition_key(self, inputs: Sequence[Digest]) -> Digest | None:
        """The key that follows from the inputs' keys, or None when only content can tell (a local directory)."""
        ...

    @property
    def content_inputs(self) -> tuple[int, ...]:
        """Positions of the inputs whose content, rather than key, decides the result; () for most operations."""
        ...

    def content_key(self, inputs: Sequence[Digest], contents: Sequence[R]) -> Digest:
        """The key made from the results of `content_inputs` (in that order) and the keys of the other inputs."""
        ...

    @property
    def cacheable(self) -> bool:
        """Whether results are worth looking up and recording; a local directory is not."""
        ...

    def execute(self, inputs: Sequence[R], work: Work) -> R:
        """Do it.

        Raises:
            LaminaError: the operation failed.
        """
        ...


class Cache(Protocol[R]):
    """Results by key. `get` gives only results that still exist."""

    def get(self, key: Digest) -> tuple[Digest, R] | None:
        """The result known under a key, and the key it was first recorded under."""
        ...

    def put(self, key: Digest, aliases: Sequence[Digest], result: R) -> None:
        """Record a result under its key, and under others that lead to it."""
        ...


class Observer(Protocol):
    """Is told what happens, from any thread; must not raise."""

    def started(self, vertex: object) -> None:
        """The vertex began to run."""

    def cached(self, vertex: object) -> None:
        """The vertex was answered from the cache."""

    def log(self, vertex: object, stream: int, data: bytes) -> None:
        """The running vertex wrote something."""

    def progress(self, vertex: object, item: str, current: int, done: bool) -> None:
        """The running vertex measured a part of its work."""

    def finished(self, vertex: object, error: BaseException | None) -> None:
        """The vertex ended; `error` is None on success."""


@dataclass(frozen=True, slots=True)
class Solved(Generic[R_co]):
    """A vertex's answer."""

    key: Digest
    result: R_co
    cached: bool
