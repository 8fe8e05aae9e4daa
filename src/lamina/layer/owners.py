"""Owners and modes that the disk cannot hold: a process that is not root can make files only in its own name.

What such a process unpacks or builds belongs to uid 0, gid 0 as far as layers are concerned, except what is recorded in
a file beside the tree. Nor could it read a file of mode 0000 again, or enter such a directory: on the disk its owner
may, and the mode that counts is recorded. So a layer that a plain user packs is, byte for byte, the one of root.
"""

from __future__ import annotations

import os
import stat
from typing import Final

_HELD: Final = -1  # the mode is that of the disk
_Record = tuple[int, int, int]
_ROOT: Final = (0, 0, _HELD)
_SUFFIX: Final = ".owners"


class Owners:
    """Who owns what in one tree, and with which mode.

    Args:
        root: the tree.
        found: uid, gid, and permission bits where they are not those of the disk, by path below the root
            ("etc/shadow"); without what is root's and as the disk has it.
        base: a path that all others are below.
    """

    def __init__(self, root: str, found: dict[str, _Record], base: str = "") -> None:
        self._root, self._found, self._base = root, found, base

    @classmethod
    def load(cls, root: str) -> Owners:
        """The record of the tree at `root`, empty when there is none."""
        try:
            with open(root + _SUFFIX, "rb") as file:
                lines = file.read().split(b"\0")
        except FileNotFoundError:
            return cls(root, {})
        found: dict[str, _Record] = {}
        for line in filter(None, lines):
            owner, _, path = line.partition(b" ")
            uid, gid, *mode = owner.split(b":")
            found[os.fsdecode(path)] = int(uid), int(gid), int(mode[0], 8) if mode else _HELD
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
            b"%d:%d%b %b\0" % (uid, gid, b"" if mode == _HELD else b":%o" % mode, os.fsencode(name))
            for name, (uid, gid, mode) in sorted(self._found.items())
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
        return self.record(path)[:2]

    def mode(self, path: str, on_disk: int) -> int:
        """The mode of a path whose st_mode on the disk is `on_disk`, file type and all."""
        bits = self.record(path)[2]
        return on_disk if bits == _HELD else stat.S_IFMT(on_disk) | bits

    def record(self, path: str) -> tuple[int, int, int]:
        """All that is noted of a path: equal records and equal modes on the disk are equal modes."""
        return self._found.get(self._path(path), _ROOT) if self._found else _ROOT

    def set(self, path: str, uid: int, gid: int, mode: int = _HELD, *, directory: bool = False) -> None:
        """Note whose a path is from now on, and its permission bits if the disk has others (`held_mode`)."""
        if mode != _HELD and held_mode(mode, directory=directory) == mode:
            mode = _HELD
        if uid or gid or mode != _HELD:
            self._found[self._path(path)] = uid, gid, mode
        elif self._found:
            self._found.pop(self._path(path), None)

    def link(self, source: str, path: str) -> None:
        """Note of a path what is noted of another one, which is the same file."""
        self.set(path, *self.record(source))

    def _path(self, path: str) -> str:
        return f"{self._base}/{path}" if self._base and path else self._base or path


def held_mode(mode: int, *, directory: bool) -> int:
    """The permission bits for the disk: whoever owns a tree can read all of it, and put something into it."""
    return mode | (0o700 if directory else 0o400)


def recorded(root: str) -> Owners | None:
    """The record of a tree, or None where the disk itself holds owners: for root."""
    return None if os.geteuid() == 0 else Owners.load(root)


def path_inside(root_fd: int, fd: int, name: str = "") -> str:
    """Where an open file or directory, or a name in it, is below an open root, links resolved."""
    root, real = os.readlink(f"/proc/self/fd/{root_fd}"), os.readlink(f"/proc/self/fd/{fd}")
    inside = real.removeprefix(root).lstrip("/")
    return f"{inside}/{name}" if inside and name else inside or name
