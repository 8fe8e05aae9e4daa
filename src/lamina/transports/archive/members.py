"""Random access to the members of a tar file: an index of where each one's bytes are, found in one pass.

Nothing is ever extracted. Names are keys into a dictionary and links are resolved within it, so `../../etc/shadow`
names a member or nothing (threats 1 and 17).
"""

from __future__ import annotations

import os
from typing import Final

from lamina.errors import Integrity, LimitExceeded, NotFound
from lamina.layer.entry import Kind
from lamina.layer.reader import TarReader
from lamina.values import dataclass

_BLOCK: Final = 512
_LEAP: Final = 4 << 20
_MAX_MEMBERS: Final = 200_000
_MAX_LINKS: Final = 32


class NoSuchMember(NotFound):
    """The archive has no regular file of that name."""

    def __init__(self, archive: str, name: str) -> None:
        super().__init__(f"{archive}: no member {name!r}")
        self.archive, self.name = archive, name


class AmbiguousMember(Integrity):
    """A member that decides what the archive means is there twice, so that tools would disagree on it."""

    def __init__(self, archive: str, name: str) -> None:
        super().__init__(f"{archive}: member {name!r} occurs twice")
        self.archive, self.name = archive, name


class FileSlice:
    """Bytes `start` to `end` of an open file, as a stream; independent of the file's position and of other slices."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd, self._at, self._end = fd, start, end

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        left = self._end - self._at
        data = os.pread(self._fd, left if size < 0 else min(size, left), self._at)
        self._at += len(data)
        return data

    def close(self) -> None:
        """The file belongs to the archive."""


@dataclass(frozen=True, slots=True)
class _Member:
    start: int
    size: int
    link: str = ""


def normal(name: str) -> str:
    """A member's name without `./` and doubled slashes; `..` stays and then matches nothing that we look up."""
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _resolve(base: str, link: str) -> str:
    """The name that a symlink member points at; above the root there is only the root."""
    parts = [] if link.startswith("/") else base.split("/")[:-1]
    for part in link.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


class Members:
    """The regular files of an uncompressed tar on a seekable file."""

    def __init__(self, fd: int, archive: str, unique: frozenset[str] = frozenset()) -> None:
        self._fd, self._archive = fd, archive
        self._members: dict[str, _Member] = {}
        self._index(unique)

    def _index(self, unique: frozenset[str]) -> None:
        end = os.fstat(self._fd).st_size
        origin, reader = 0, TarReader(FileSlice(self._fd, 0, end))
        while (entry := reader.next()) is not None:
            start = origin + reader.position
            name = normal(entry.name)
            if name in self._members and name in unique:
                raise AmbiguousMember(self._archive, name)
            if entry.kind is Kind.FILE and entry.sparse is None:
                self._members[name] = _Member(start, entry.size)
            elif entry.kind is Kind.SYMLINK:
                self._members[name] = _Member(0, 0, _resolve(name, entry.linkname) or "/")
            elif entry.kind is Kind.HARDLINK:
                self._members[name] = _Member(0, 0, normal(entry.linkname) or "/")
            if len(self._members) > _MAX_MEMBERS:
                raise LimitExceeded(f"{self._archive}: more than {_MAX_MEMBERS} members")
            if entry.stored > _LEAP:
                # Leap over big members rather than read through them.
                origin = start + -(-entry.stored // _BLOCK) * _BLOCK
                if origin > end:
                    raise Integrity(f"{self._archive}: unexpected end of archive in {entry.name!r}")
                reader = TarReader(FileSlice(self._fd, origin, end))

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def names(self) -> list[str]:
        """All names, links included."""
        return list(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member, links followed.

        Raises:
            NoSuchMember: it is not there.
        """
        return self._member(name).size

    def open(self, name: str, offset: int = 0) -> FileSlice:
        """A member's bytes from `offset` on, links followed."""
        member = self._member(name)
        return FileSlice(self._fd, member.start + min(offset, member.size), member.start + member.size)

    def read(self, name: str, limit: int) -> bytes:
        """A small member whole.

        Raises:
            LimitExceeded: it has more than `limit` bytes (threat 14).
        """
        size = self.size(name)
        if size > limit:
            raise LimitExceeded(f"{self._archive}: {name}: {size} bytes exceed the limit of {limit}")
        return self.open(name).read()

    def _member(self, name: str) -> _Member:
        found = self._find(name)
        if found is None:
            raise NoSuchMember(self._archive, name)
        return found

    def _find(self, name: str) -> _Member | None:
        name = normal(name)
        for _link in range(_MAX_LINKS):
            member = self._members.get(name)
            if member is None or not member.link:
                return member
            name = member.link
        return None
