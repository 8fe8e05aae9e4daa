"""Snapshots as values, and what can be wrong with them."""

from __future__ import annotations

from typing import Final

from lamina.errors import AlreadyExists, Conflict, NotFound
from lamina.values import dataclass

ACTIVE: Final = "active"
VIEW: Final = "view"
COMMITTED: Final = "committed"


class SnapshotNotFound(NotFound):
    """No such snapshot.

    Attributes:
        key: what was asked for.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"snapshot {key} does not exist")
        self.key = key


class SnapshotExists(AlreadyExists):
    """The key is taken.

    Attributes:
        key: the key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"snapshot {key} exists already")
        self.key = key


class SnapshotInUse(Conflict):
    """Something needs the snapshot.

    Attributes:
        key: the snapshot.
        user: what needs it.
    """

    def __init__(self, key: str, user: str) -> None:
        super().__init__(f"snapshot {key} is in use by {user}")
        self.key, self.user = key, user


class WrongKind(Conflict):
    """The operation is for another kind of snapshot.

    Attributes:
        key: the snapshot.
        kind: what it is.
    """

    def __init__(self, key: str, kind: str, wanted: str) -> None:
        super().__init__(f"snapshot {key} is {kind}, not {wanted}")
        self.key, self.kind = key, kind


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the index knows of a snapshot; sizes are those of the last count (0 while active).

    Attributes:
        key: its name.
        parent: the committed snapshot it stands on, or None.
        kind: `active`, `view` or `committed`.
        directory: its directory name.
        size, disk, inodes: see `Usage`.
        created_at, last_used_at: RFC 3339.
    """

    key: str
    parent: str | None
    kind: str
    directory: str
    size: int
    disk: int
    inodes: int
    created_at: str
    last_used_at: str


@dataclass(frozen=True, slots=True)
class Changes:
    """Where the changes of a snapshot can be read, for `lamina.layer.diff`.

    Attributes:
        stacked: `tree` holds only changes, with overlay's whiteouts; `lowers` are the trees below, topmost first.
            Otherwise `tree` is the whole tree and `lowers` has the whole parent, or nothing.
        tree: a directory.
        lowers: directories.
        userxattr: which attribute marks opaque directories.
    """

    stacked: bool
    tree: str
    lowers: tuple[str, ...]
    userxattr: bool
