"""Source trees: a build context seen through its ignore rules, or another stage's root file system.

Everything is reached through a descriptor of the root and no link is followed out of it (threats 19 and 20). Walks are
sorted by name, so that what is hashed and what is copied come in one order on every machine.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from lamina.build.dockerfile.match import has_wildcard
from lamina.errors import Denied, Invalid, NotFound
from lamina.layer.owners import Owners
from lamina.runtime import rootfs
from lamina.values import dataclass


class Ignore(Protocol):
    """The rules of a `.dockerignore`."""

    def excluded(self, path: str) -> bool:
        """Whether the path (relative, `/`-separated) is left out of the context."""
        ...

    def may_contain_included(self, path: str) -> bool:
        """Whether something below an excluded directory can still be part of the context."""
        ...


class MissingSource(NotFound):
    """A `COPY` or `ADD` names something that is not there; the message is BuildKit's."""

    def __init__(self, path: str, *, ignored: bool = False) -> None:
        hint = f"{path} is excluded by .dockerignore" if ignored else None
        super().__init__(f'failed to compute cache key: failed to calculate checksum: "/{path}": not found', hint=hint)
        self.path = path


class UnreadableSource(Denied):
    """What a `COPY` or `ADD` selects may not be read by who builds; the message is BuildKit's."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"error from sender: open {path}: permission denied",
            hint="make it readable for who builds, or leave it out by .dockerignore",
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a tree; `directory_fd` and `name` reach it without walking, for as long as the walk stands there.

    Attributes:
        relative: to where the walk began; "" is the start itself.
        path: relative to the root of the tree.
        facts: of the entry itself, links not followed.
    """

    relative: str
    path: str
    facts: os.stat_result
    directory_fd: int
    name: str

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.facts.st_mode)

    def open(self) -> int:
        """A descriptor for reading a regular file; never waits for a FIFO's writer.

        Raises:
            UnreadableSource: the system does not let this process read it.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(self.name, flags, dir_fd=self.directory_fd)
        except PermissionError:
            raise UnreadableSource(self.path) from None

    def readlink(self) -> str:
        """Where a symbolic link points."""
        return os.readlink(self.name, dir_fd=self.directory_fd)


class SourceTree:
    """A directory to copy from.

    Args:
        root: the directory on this machine.
        ignore: rules that hide entries, or None.
        owners: the record of owners and modes that the disk does not hold, or None where it does.
    """

    def __init__(self, root: str, ignore: Ignore | None = None, owners: Owners | None = None) -> None:
        self.root, self._ignore, self._owners = root, ignore, owners
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def __enter__(self) -> SourceTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def owner_of(self, entry: Entry) -> tuple[int, int]:
        """Uid and gid of an entry."""
        return (entry.facts.st_uid, entry.facts.st_gid) if self._owners is None else self._owners.get(entry.path)

    def mode_of(self, entry: Entry) -> int:
        """The st_mode of an entry."""
        mode = entry.facts.st_mode
        return mode if self._owners is None else self._owners.mode(entry.path, mode)

    def resolve(self, path: str) -> str:
        """The path with links followed inside the root (`/` and `..` clamp to it).

        Raises:
            MissingSource: nothing is there, or the context's rules hide it.
            UnreadableSource: a directory on the way may not be entered.
        """
        clean = clean_path(path)
        try:
            fd = rootfs.open_path(self.fd, clean or ".")
        except OSError as error:
            raise (UnreadableSource if error.errno == errno.EACCES else MissingSource)(clean) from None
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")
            base = os.readlink(f"/proc/self/fd/{self.fd}")
        finally:
            os.close(fd)
        found = clean_path(real.removeprefix(base) if base != "/" else real)
        if self._hidden(found):
            raise MissingSource(clean, ignored=True)
        return found

    def _hidden(self, path: str) -> bool:
        """Whether neither the path nor anything below it is visible."""
        if self._ignore is None or not path or not self._ignore.excluded(path):
            return False
        if not self._ignore.may_contain_included(path):
            return True
        return next(self.walk(path), None) is None

    def names(self, directory: str) -> list[str]:
        """The visible names in a directory, sorted; [] when it is none."""
        try:
            fd = rootfs.open_path(self.fd, directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise UnreadableSource(directory or ".") from None
            return []
        try:
            names = sorted(os.listdir(fd), key=os.fsencode)
        finally:
            os.close(fd)
        return [name for name in names if not self._hidden(posixpath.join(directory, name))]

    def glob(self, pattern: str, match: Callable[[str, str], bool]) -> list[str]:
        """Paths that match a pattern component by component, sorted; links on the way are followed inside the root."""
        found = [""]
        for part in clean_path(pattern).split("/"):
            if part == "**":
                found = [below for directory in found for below in self._directories(directory)]
                continue
            found = [
                posixpath.join(directory, name)
                for directory in found
                for name in (self.names(directory) if has_wildcard(part) else [part])
                if not has_wildcard(part) or match(part, name)
            ]
        return [path for path in dict.fromkeys(found) if self._exists(path)]

    def _directories(self, directory: str) -> list[str]:
        """The directory and all directories below it, links not followed (`**` of `--parents`)."""
        try:
            return [entry.path for entry in self.walk(self.resolve(directory)) if entry.is_directory]
        except MissingSource:
            return []

    def _exists(self, path: str) -> bool:
        try:
            self.resolve(path)
        except MissingSource:
            return False
        return True

    def walk(self, path: str = "") -> Iterator[Entry]:
        """The entry at `path` (resolved already) and all visible ones below it, parents first, sorted by name."""
        parent, name = posixpath.split(path)
        fd = rootfs.open_path(self.fd, parent or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            facts = os.stat(name or ".", dir_fd=fd, follow_symlinks=False)
            yield from self._walk(Entry("", path, facts, fd, name or "."))
        finally:
            os.close(fd)

    def _walk(self, start: Entry) -> Iterator[Entry]:
        """Depth first on a stack of our own: trees may be deeper than Python's."""
        pending: list[Entry] = []  # directories that are excluded themselves, until something below shows
        stack: list[tuple[int, Iterator[tuple[str, os.stat_result]], Entry]] = []

        def visible(entry: Entry) -> Iterator[Entry]:
            excluded = self._ignore is not None and bool(entry.path) and self._ignore.excluded(entry.path)
            if excluded and not (entry.is_directory and self._ignore and self._ignore.may_contain_included(entry.path)):
                return
            if excluded:
                pending.append(entry)
            else:
                yield from pending
                pending.clear()
                yield entry
            if entry.is_directory:
                fd, listing = _opened(entry)
                stack.append((fd, iter(listing), entry))

        try:
            yield from visible(start)
            while stack:
                fd, listing, directory = stack[-1]
                one = next(listing, None)
                if one is None:
                    stack.pop()
                    os.close(fd)
                    if pending and pending[-1] is directory:
                        pending.pop()
                    continue
                name, facts = one
                relative = f"{directory.relative}/{name}" if directory.relative else name
                path = f"{directory.path}/{name}" if directory.path else name
                yield from visible(Entry(relative, path, facts, fd, name))
        finally:
            for fd, _, _ in stack:
                os.close(fd)


def _opened(entry: Entry) -> tuple[int, list[tuple[str, os.stat_result]]]:
    """A directory and what is in it.

    Raises:
        UnreadableSource: the system does not let this process list it, or enter it.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = -1
    try:
        fd = os.open(entry.name, flags, dir_fd=entry.directory_fd)
        return fd, _listing(fd)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        if isinstance(error, PermissionError):
            raise UnreadableSource(entry.path or ".") from None
        raise


def _listing(fd: int) -> list[tuple[str, os.stat_result]]:
    with os.scandir(fd) as entries:
        found = [(os.fsencode(entry.name), entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    found.sort(key=lambda one: one[0])
    return [(name, facts) for _, name, facts in found]


def clean_path(path: str) -> str:
    """A path relative to a root: `/` and `..` cannot lead above it; "" is the root itself.

    Raises:
        Invalid: a NUL byte.
    """
    if "\0" in path:
        raise Invalid("a path holds a NUL byte")
    return posixpath.normpath("/" + path).lstrip("/")
