"""Directories below a root, by descriptor, with links resolved inside the root (like openat2 RESOLVE_IN_ROOT).

Every step opens one component with O_NOFOLLOW relative to a directory that is already open, so another process that
swaps a directory for a link cannot lead the walk outside (threat 2). ".." is answered from the list of directories
walked, never by the file system.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
_KEEP = 96


class Dir:
    """An open directory.

    Attributes:
        fd: O_PATH descriptor, owned by the cache it came from.
        path: canonical path below the root, "" for the root itself.
    """

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    def join(self, name: str) -> str:
        """Canonical path of a child."""
        return f"{self.path}/{name}" if self.path else name


Missing = Callable[[Dir, str], str | None]
"""Called for a component that does not exist: creates it and returns None, or returns a link target to follow, or
raises."""
Blocked = Callable[[Dir, str], None]
"""Called for a component that exists and is neither directory nor link: removes it, or raises."""


def _raise_missing(here: Dir, name: str) -> str | None:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), here.join(name))


def _raise_blocked(here: Dir, name: str) -> None:
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), here.join(name))


class DirCache:
    """Opens directories below a root and keeps recently used ones open.

    Not thread-safe. Call `trim` between operations; it bounds the number of open descriptors.
    """

    def __init__(self, root_fd: int) -> None:
        self.root = Dir(root_fd, "")
        self._open: dict[str, Dir] = {}

    def walk(
        self,
        parts: Iterable[str],
        *,
        missing: Missing = _raise_missing,
        blocked: Blocked = _raise_blocked,
    ) -> Dir:
        """Open the directory at `parts`, resolving symbolic links inside the root.

        Args:
            parts: components below the root.
            missing: see `Missing`.
            blocked: see `Blocked`.

        Raises:
            OSError: ELOOP for too many links, and whatever opening raises.
        """
        stack = [self.root]
        todo = list(parts)
        todo.reverse()
        links = 0
        cache = self._open
        while todo:
            name = todo.pop()
            if not name or name == ".":
                continue
            if name == "..":
                if len(stack) > 1:
                    stack.pop()
                continue
            here = stack[-1]
            path = f"{here.path}/{name}" if here.path else name
            child = cache.get(path)
            if child is None:
                target: str | None
                try:
                    child = cache[path] = Dir(os.open(name, WALK, dir_fd=here.fd), path)
                except FileNotFoundError:
                    target = missing(here, name)
                    if target is None:
                        child = cache[path] = Dir(os.open(name, WALK, dir_fd=here.fd), path)
                except NotADirectoryError:
                    target = self._link(here, name)
                    links += 1
                    if target is None and links <= _MAX_LINKS:
                        blocked(here, name)
                        todo.append(name)
                        continue
                if child is None:
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    assert target is not None
                    if target.startswith("/"):
                        del stack[1:]
                    todo.extend(reversed(target.split("/")))
                    continue
            stack.append(child)
        return stack[-1]

    @staticmethod
    def _link(here: Dir, name: str) -> str | None:
        try:
            return os.readlink(name, dir_fd=here.fd)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def forget(self, path: str) -> None:
        """Close the directory at a canonical path, because it was removed or replaced."""
        gone = self._open.pop(path, None)
        if gone is not None:
            os.close(gone.fd)

    def enter(self, path: str) -> Dir:
        """Open the directory at a canonical path, following no link at all.

        Only the directory itself is kept open, not those on the way, so depth costs no descriptors.

        Raises:
            FileNotFoundError, NotADirectoryError: it is gone, or a link or file stands in the way.
        """
        cache = self._open
        found = cache.get(path) if path else self.root
        if found is not None:
            return found
        rest: list[str] = []
        here = self.root
        above = path
        while above:
            above, _, name = above.rpartition("/")
            rest.append(name)
            if above in cache:
                here = cache[above]
                break
        owned = -1
        try:
            fd = here.fd
            while rest:
                fd = os.open(rest.pop(), WALK, dir_fd=fd)
                if owned >= 0:
                    os.close(owned)
                owned = fd
        except OSError:
            if owned >= 0:
                os.close(owned)
            raise
        found = cache[path] = Dir(owned, path)
        return found

    def trim(self) -> bool:
        """Close the older half when many directories are open; True when it did."""
        if len(self._open) < _KEEP:
            return False
        for path in list(self._open)[: len(self._open) - _KEEP // 2]:
            self.forget(path)
        return True

    def clear(self) -> None:
        """Close everything but the root."""
        for each in self._open.values():
            os.close(each.fd)
        self._open.clear()
