"""What operations pass to each other: a tree in the store, or a local directory; and where new trees are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from lamina.build.graph.definitions import Copy
from lamina.build.ops.tree import SourceTree
from lamina.errors import LaminaError
from lamina.spec.digest import Digest
from lamina.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Tree:
    """A committed snapshot; None is the empty tree of `scratch`."""

    snapshot: str | None


@dataclass(frozen=True, slots=True)
class Directory:
    """A local directory behind its ignore rules.

    Attributes:
        open: gives a fresh view that the caller closes.
        selected: for copies whose selection was digested already, the digest or why there is none.
    """

    open: Callable[[], SourceTree]
    selected: Mapping[Copy, Digest | LaminaError | OSError] = field(default_factory=dict)


Result = Tree | Directory


@dataclass(frozen=True, slots=True)
class Draft:
    """A tree being made.

    Attributes:
        root: where it is mounted, writable.
        commit: makes it a snapshot that depends on nothing but its parents; called once, after the last write.
    """

    root: str
    commit: Callable[[], str]


class Trees(Protocol):
    """The store as operations see it."""

    def draft(self, parent: str | None) -> AbstractContextManager[Draft]:
        """A writable tree on top of a snapshot; dropped unless committed."""
        ...

    def stack(self, parent: str | None, layer: str) -> str:
        """A committed snapshot that shows the tree `layer`, which stands on nothing, as a layer on top of another."""
        ...

    def view(self, snapshot: str | None) -> AbstractContextManager[str]:
        """A snapshot's tree to read, as a directory."""
        ...
