"""Owners that the disk cannot hold: a process that is not root can make files only in its own name.

What such a process unpacks or builds belongs to uid 0, gid 0 as far as layers are concerned, except what is recorded in
a file beside the tree. So a layer that a plain user packs is, byte for byte, the one that root would pack.
"""

from __future__ import annotations

import os
from typing import Final

_ROOT: Final = (0, 0)
_SUFFIX: Final = ".owners"


class Owners:
    """Who owns what in one tree.

    Args:
        root: the tree.
        found: (uid, gid) by path below the root ("etc/shadow"), without those of root.
        base: a path that all others are below.
    """

    def __init__(self, root: str, found: dict[str, tuple[int, int]], base: str = "") -> None:
        self._root, self._found, self._base = root, found, base

    @classmethod
    def load(cls, root: str) -> Owners:
        """The record of the tree at `root`, empty when there is none."""
        try:
            with open(root + _SUFFIX, "rb") as file:
                lines = file.read().split(b"\0")
        except FileNotFoundError:
            return cls(root, {})
        found: dict[str, tuple[int, int]] = {}
        for line in filter(None, lines):
            owner, _, path = line.partition(b" ")
            uid, _, gid = owner.partition(b":")
            found[os.fsdecode(path)] = int(uid), int(gid)
        return cls(root, found)

    def save(self, root: str = "") -> None:
        """Write the record beside its tree, or beside a copy of it; it is durable when the directory is synced.

        Raises:
            OSError: the disk refuses; the record is as it was.
        """
        path = (root or self._root) + _SUFFIX
        if not self._found and not os.path.exists(path):
            return
        content = b"".join(
            b"%d:%d %b\0" % (uid, gid, os.fsencode(name)) for name, (uid, gid) in sorted(self._found.items())
        )
        temporary = f"{path}.new"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def below(self, path: str) -> Owners:
        """The same record, seen from a directory of the tree."""
        return Owners(self._root, self._found, self._path(path))

    def get(self, path: str) -> tuple[int, int]:
        """The uid and gid of a path."""
        return self._found.get(self._path(path), _ROOT) if self._found else _ROOT

    def set(self, path: str, uid: int, gid: int) -> None:
        """Note whose a path is from now on."""
        if uid or gid:
            self._found[self._path(path)] = uid, gid
        elif self._found:
            self._found.pop(self._path(path), None)

    def _path(self, path: str) -> str:
        return f"{self._base}/{path}" if self._base and path else self._base or path


def recorded(root: str) -> Owners | None:
    """The record of a tree, or None where the disk itself holds owners: for root."""
    return None if os.geteuid() == 0 else Owners.load(root)


def path_inside(root_fd: int, fd: int, name: str = "") -> str:
    """Where an open file or directory, or a name in it, is below an open root, links resolved."""
    root, real = os.readlink(f"/proc/self/fd/{root_fd}"), os.readlink(f"/proc/self/fd/{fd}")
    inside = real.removeprefix(root).lstrip("/")
    return f"{inside}/{name}" if inside and name else inside or name
