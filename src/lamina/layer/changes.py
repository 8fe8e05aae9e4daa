"""What changed: an overlay upper directory against the layers below, or one tree against another.

Both give Docker's view (`docker diff`): A added, C changed, D deleted; every changed path is preceded by its parent
directories as C; a deleted or added directory's deleted content is not listed; order is the byte order of full paths.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Literal

from lamina.errors import Unsupported
from lamina.layer import whiteout
from lamina.layer.dirs import READ, Dir, DirCache
from lamina.layer.owners import Owners
from lamina.layer.xattrs import read_xattrs
from lamina.values import dataclass, field

ChangeKind = Literal["A", "C", "D"]


@dataclass(frozen=True, slots=True)
class Change:
    """One changed path.

    Attributes:
        kind: "A" added, "C" changed, "D" deleted.
        path: path below the root, "etc/passwd"; `str()` gives Docker's line, "C /etc/passwd".
        opaque: a changed directory that hides everything the layers below have in it.
        mode: st_mode when it was seen, 0 for D; a hint only.
    """

    kind: ChangeKind
    path: str
    opaque: bool = field(default=False, compare=False)
    mode: int = field(default=0, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} /{self.path}"


class _Found:
    """Collects changes, adding parents, and sorts them."""

    def __init__(self) -> None:
        self.by_path: dict[str, Change] = {}

    def add(self, change: Change) -> None:
        self.by_path[change.path] = change
        parent = change.path.rpartition("/")[0]
        while parent and parent not in self.by_path:
            self.by_path[parent] = Change("C", parent, mode=stat.S_IFDIR)
            parent = parent.rpartition("/")[0]

    def __iter__(self) -> Iterator[Change]:
        return iter(sorted(self.by_path.values(), key=lambda change: os.fsencode(change.path)))


def _attributes(here: Dir, name: str) -> dict[str, bytes]:
    return read_xattrs(f"/proc/self/fd/{here.fd}/{name}")


# --- overlay ---------------------------------------------------------------------------------------------------------


class _Lowers:
    """The merged view of read-only layers, topmost first. They are never written while an upper exists."""

    def __init__(self, roots: Sequence[str], *, userxattr: bool) -> None:
        self._opaque = whiteout.opaque_xattr(userxattr=userxattr)
        self.fds: list[int] = []
        try:
            for root in roots:
                self.fds.append(os.open(root, READ))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())

    def look(self, path: str, layers: Sequence[int]) -> tuple[os.stat_result | None, list[int]]:
        """Find a path whose parent directory is merged from `layers`.

        Returns:
            Its status, or None when it does not exist; for a directory also the layers it is merged from.
        """
        found: os.stat_result | None = None
        merged: list[int] = []
        for layer in layers:
            fd = self.fds[layer]
            try:
                status = os.stat(path, dir_fd=fd, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(status.st_mode):
                if found is None and not whiteout.is_overlay_whiteout(status):
                    found = status
                break
            found = found or status
            merged.append(layer)
            if layer != layers[-1] and self._is_opaque(fd, path):
                break
        return found, merged

    def _is_opaque(self, fd: int, path: str) -> bool:
        try:
            return os.getxattr(f"/proc/self/fd/{fd}/{path}", self._opaque, follow_symlinks=False) == b"y"
        except OSError:
            return False

    def names(self, path: str, layers: Sequence[int]) -> set[str]:
        """Names in a directory merged from `layers`, whiteouts included."""
        names: set[str] = set()
        for layer in layers:
            fd = os.open(path or ".", READ, dir_fd=self.fds[layer])
            try:
                names.update(os.listdir(fd))
            finally:
                os.close(fd)
        return names

    def attributes(self, path: str, layer: int) -> dict[str, bytes]:
        return read_xattrs(f"/proc/self/fd/{self.fds[layer]}/{path}")


def changes_overlay(upper: str | int, lowers: Sequence[str], *, userxattr: bool = False) -> Iterator[Change]:
    """List what an overlay upper directory changes.

    Args:
        upper: the upper directory, by path or descriptor. It may be in use; what vanishes meanwhile is left out.
        lowers: the layers below, topmost first as in `lowerdir=`; none for a layer that stands alone.
        userxattr: the mount used `userxattr`.

    Returns:
        Changes in path order. Directories that were only copied up, without a change of their own, appear as parents
        only. A directory that was removed and made again is a C with `opaque`, and lists what it lost as D.

    Raises:
        Unsupported: the overlay was mounted with redirect_dir and a directory was renamed.
    """
    root_fd = os.open(upper, READ) if isinstance(upper, str) else os.open(".", READ, dir_fd=upper)
    below = None
    cache = DirCache(root_fd)
    found = _Found()
    try:
        below = _Lowers(lowers, userxattr=userxattr)
        everything = list(range(len(below.fds)))
        pending: list[tuple[str, list[int], bool]] = [("", everything, False)]
        while pending:
            path, layers, hidden = pending.pop()
            cache.trim()
            try:
                here = cache.enter(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            pending += _overlay_dir(here, layers, below, found, hidden=hidden, userxattr=userxattr)
    finally:
        cache.clear()
        os.close(root_fd)
        if below is not None:
            below.close()
    return iter(found)


def _overlay_dir(
    here: Dir, layers: list[int], below: _Lowers, found: _Found, *, hidden: bool, userxattr: bool
) -> list[tuple[str, list[int], bool]]:
    """Compare one upper directory; returns the directories below it that need the same."""
    pending: list[tuple[str, list[int], bool]] = []
    names: set[str] = set()
    fd = os.open(".", READ, dir_fd=here.fd)
    try:
        with os.scandir(fd) as listing:
            for item in listing:
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                name = item.name
                path = here.join(name)
                before, merged = below.look(path, layers) if layers else (None, [])
                if whiteout.is_overlay_whiteout(status):
                    if before is not None and not hidden:
                        found.add(Change("D", path))
                        names.add(name)
                    continue
                names.add(name)
                kind: ChangeKind = "A" if before is None else "C"
                if not stat.S_ISDIR(status.st_mode):
                    found.add(Change(kind, path, mode=status.st_mode))
                    continue
                opaque = bool(merged) and not hidden and _is_opaque_child(fd, name, path, userxattr=userxattr)
                same = (
                    before is not None
                    and bool(merged)
                    and not opaque
                    and not hidden
                    and _same_dir(status, before)
                    and _attributes(here, name) == below.attributes(path, merged[0])
                )
                if not same:
                    found.add(Change(kind, path, opaque, status.st_mode))
                pending.append((path, merged, hidden or opaque))
    finally:
        os.close(fd)
    if hidden:
        for name in below.names(here.path, layers) - names:
            path = here.join(name)
            if below.look(path, layers)[0] is not None:
                found.add(Change("D", path))
    return pending


def _is_opaque_child(parent_fd: int, name: str, path: str, *, userxattr: bool) -> bool:
    try:
        fd = os.open(name, READ, dir_fd=parent_fd)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        prefix = whiteout.OVERLAY_PREFIXES[1 if userxattr else 0]
        if f"{prefix}redirect" in os.listxattr(fd):
            raise Unsupported(f"directory {path!r} was renamed on an overlay mounted with redirect_dir")
        return whiteout.is_overlay_opaque(fd, userxattr=userxattr)
    finally:
        os.close(fd)


def _same_dir(new: os.stat_result, old: os.stat_result) -> bool:
    return (
        new.st_mode == old.st_mode
        and new.st_uid == old.st_uid
        and new.st_gid == old.st_gid
        and new.st_mtime_ns == old.st_mtime_ns
    )


# --- two trees -------------------------------------------------------------------------------------------------------


def changes_trees(
    old: str | int,
    new: str | int,
    *,
    since_ns: int | None = None,
    owners: tuple[Owners, Owners] | None = None,
) -> Iterator[Change]:
    """List the differences from tree `old` to tree `new`.

    A file is unchanged when type, mode, owner, size, mtime, device number, link target and attributes are equal; the
    times of directories do not count, as for Docker (moby#9874). That misses a rewrite that keeps size and time:
    with `since_ns`, the moment `new` was copied from `old`, files whose inode changed later are compared by content.

    Args:
        old: root of the tree before, by path or descriptor.
        new: root of the tree after.
        since_ns: nanoseconds since the epoch, or None.
        owners: the records of owners that the disk does not hold, of both trees.

    Returns:
        Changes in path order.
    """
    old_fd = os.open(old, READ) if isinstance(old, str) else os.open(".", READ, dir_fd=old)
    new_fd = -1
    found = _Found()
    caches: list[DirCache] = []
    try:
        new_fd = os.open(new, READ) if isinstance(new, str) else os.open(".", READ, dir_fd=new)
        before, after = caches = [DirCache(old_fd), DirCache(new_fd)]
        pending: list[tuple[str, bool]] = [("", True)]
        while pending:
            path, compare = pending.pop()
            before.trim()
            after.trim()
            try:
                here = after.enter(path)
                there = before.enter(path) if compare else None
            except (FileNotFoundError, NotADirectoryError):
                continue
            pending += _tree_dir(there, here, found, since_ns, owners)
    finally:
        for cache in caches:
            cache.clear()
        os.close(old_fd)
        if new_fd >= 0:
            os.close(new_fd)
    return iter(found)


def _listing(here: Dir | None) -> dict[str, os.stat_result]:
    if here is None:
        return {}
    found: dict[str, os.stat_result] = {}
    fd = os.open(".", READ, dir_fd=here.fd)
    try:
        with os.scandir(fd) as listing:
            for item in listing:
                try:
                    found[item.name] = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
    finally:
        os.close(fd)
    return found


def _tree_dir(
    there: Dir | None, here: Dir, found: _Found, since_ns: int | None, owners: tuple[Owners, Owners] | None
) -> list[tuple[str, bool]]:
    """Compare one directory of two trees; returns the directories below it that need the same."""
    pending: list[tuple[str, bool]] = []
    before = _listing(there)
    for name, status in _listing(here).items():
        path = here.join(name)
        old = before.pop(name, None)
        is_dir = stat.S_ISDIR(status.st_mode)
        if old is None or there is None:
            found.add(Change("A", path, mode=status.st_mode))
        elif not _same(there, here, name, old, status, since_ns) or (
            owners is not None and owners[0].record(path) != owners[1].record(path)
        ):
            found.add(Change("C", path, mode=status.st_mode))
        if is_dir:
            pending.append((path, old is not None and stat.S_ISDIR(old.st_mode)))
    for name in before:
        found.add(Change("D", here.join(name)))
    return pending


def _same(there: Dir, here: Dir, name: str, old: os.stat_result, new: os.stat_result, since_ns: int | None) -> bool:
    if old.st_ino == new.st_ino and old.st_dev == new.st_dev:
        return True
    if old.st_mode != new.st_mode or old.st_uid != new.st_uid or old.st_gid != new.st_gid or old.st_rdev != new.st_rdev:
        return False
    mode = new.st_mode
    if not stat.S_ISDIR(mode) and (old.st_mtime_ns != new.st_mtime_ns or old.st_size != new.st_size):
        return False
    try:
        if _attributes(there, name) != _attributes(here, name):
            return False
        if stat.S_ISLNK(mode):
            return os.readlink(name, dir_fd=there.fd) == os.readlink(name, dir_fd=here.fd)
        if stat.S_ISREG(mode) and since_ns is not None and new.st_ctime_ns > since_ns:
            return _same_content(there, here, name)
    except FileNotFoundError:
        return False
    return True


def _same_content(there: Dir, here: Dir, name: str) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with (
        os.fdopen(os.open(name, flags, dir_fd=there.fd), "rb", buffering=0) as old,
        os.fdopen(os.open(name, flags, dir_fd=here.fd), "rb", buffering=0) as new,
    ):
        while True:
            left, right = old.read(1 << 18), new.read(1 << 18)
            if left != right:
                return False
            if not left:
                return True
