"""The tree driver: how file trees share what they have in common.

A driver sees directories, never keys or the index. Two exist: overlay stacks the changes of each snapshot, vfs keeps
whole copies. `Snapshotter` gives both one behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lamina.linux.mounts import Mount
from lamina.values import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree takes.

    Attributes:
        size: bytes of content, as Docker counts them; for a snapshot with a parent, of its changes.
        disk: bytes allocated on disk, as du counts them.
        inodes: files, directories and everything else.
    """

    size: int
    disk: int
    inodes: int


class TreeDriver(Protocol):
    """Keeps trees in directories that `Snapshotter` names. `parents` are such directories, topmost first.

    Attributes:
        name: as `--storage-driver` spells it.
        stacked: a tree holds only its changes, so a layer can be unpacked before the ones below are there.
        userxattr: opaque directories are marked by `user.overlay.opaque` (overlay inside a user namespace).
    """

    name: str
    stacked: bool
    userxattr: bool

    def create(self, directory: str, parents: Sequence[str]) -> None:
        """Fills a fresh directory with an empty set of changes on top of `parents`."""

    def seal(self, directory: str) -> None:
        """Removes what only a writable tree needs."""

    def tree(self, directory: str) -> str:
        """Where the files are: all of them (vfs), or this snapshot's changes (overlay)."""
        ...

    def mounts(
        self, directory: str | None, parents: Sequence[str], target: str, *, writable: bool, volatile: bool
    ) -> tuple[Mount, ...]:
        """What makes the whole tree appear at `target`; `directory` None means the parents alone, read-only."""
        ...

    def plain(self, directory: str | None, parents: Sequence[str]) -> str | None:
        """A directory that is the whole tree as it is, without a mount; None when there is none."""
        ...

    def usage(self, directory: str, parents: Sequence[str]) -> Usage:
        """Walks and counts."""
        ...
