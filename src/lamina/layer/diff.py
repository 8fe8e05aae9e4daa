"""Make layer archives from directories: the changes of a container or build step, or a whole tree.

Deterministic: equal trees give equal bytes. The order is that of the changes, hard links go to the first name of their
inode, owner names are empty, times are whole seconds (as Docker and containerd write them).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from lamina.errors import Conflict, Unsupported
from lamina.layer import whiteout
from lamina.layer.changes import Change, changes_overlay, changes_trees
from lamina.layer.digesting import Write
from lamina.layer.dirs import READ, Dir, DirCache
from lamina.layer.entry import Kind, TarEntry
from lamina.layer.owners import Owners
from lamina.layer.usage import Usage, tree_usage
from lamina.layer.writer import TarWriter
from lamina.layer.xattrs import read_xattrs
from lamina.values import dataclass

__all__ = [
    "Change",
    "FileChanged",
    "OwnerMap",
    "Usage",
    "Written",
    "changes_overlay",
    "changes_trees",
    "tree_usage",
    "write_layer",
    "write_tree",
]

_NANO = 1_000_000_000
_BUFFER = 256 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

OwnerMap = Callable[[int, int], tuple[int, int]]
"""Maps (uid, gid) on disk to (uid, gid) in the archive."""


class FileChanged(Conflict):
    """A file shrank while it was being archived.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} changed while it was read", hint="pause or stop what writes to it, then repeat")
        self.path = path


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_layer` or `write_tree` wrote.

    Attributes:
        entries: archive entries, whiteouts included.
        bytes: logical bytes of regular files, hard links counted once; the size Docker shows for a layer.
        whiteouts: deletions among the entries.
        skipped: paths left out: sockets, and names starting with `.wh.`, which no layer can express.
    """

    entries: int
    bytes: int
    whiteouts: int
    skipped: tuple[str, ...]


def write_layer(
    write: Write,
    root: str | int,
    changes: Iterable[Change],
    *,
    clamp: int | None = None,
    owner: OwnerMap | None = None,
    owners: Owners | None = None,
) -> Written:
    """Write the archive of a layer.

    Args:
        write: sink for the uncompressed tar. The buffers it is given are reused: it must not keep them.
        root: where added and changed paths are found: the overlay upper directory, or the new tree.
        changes: parents before children, from `changes_overlay` or `changes_trees`. A path that is gone is left out.
        clamp: no time in the archive is later than this many seconds since the epoch (SOURCE_DATE_EPOCH).
        owner: see `OwnerMap`; None keeps owners.
        owners: the record of owners and modes that the disk does not hold.

    Returns:
        What was written.

    Raises:
        FileChanged: a file shrank meanwhile.
        Unsupported: an overlay with metacopy: the upper directory lacks the data.
        OSError: from reading, or from `write`.
    """
    packer = _Packer(write, root, clamp, owner, owners)
    opaque: set[str] = set()
    try:
        for change in changes:
            path = change.path
            parent, _, name = path.rpartition("/")
            if change.kind == "D":
                if not _below(path, opaque):
                    packer.whiteout(f"{parent}/{whiteout.name_of(name)}" if parent else whiteout.name_of(name))
                continue
            packer.add(parent, name, change.mode)
            if change.opaque:
                opaque.add(path)
                packer.whiteout(f"{path}/{whiteout.OPAQUE_NAME}")
        return packer.finish()
    finally:
        packer.close()


def _below(path: str, directories: set[str]) -> bool:
    if not directories:
        return False
    while path:
        path = path.rpartition("/")[0]
        if path in directories:
            return True
    return False


def write_tree(
    write: Write,
    root: str | int,
    *,
    exclude: Callable[[str], bool] | None = None,
    clamp: int | None = None,
    owner: OwnerMap | None = None,
) -> Written:
    """Write everything below `root` (not the root itself), directories before their content, names in byte order.

    Args:
        write: sink, as for `write_layer`.
        root: the tree, by path or descriptor.
        exclude: called with each path ("var/cache"); True leaves it and everything below it out.
        clamp: as for `write_layer`.
        owner: as for `write_layer`.

    Returns:
        What was written.
    """
    packer = _Packer(write, root, clamp, owner)
    try:
        pending = [("", "", 0)]
        while pending:
            parent, name, mode = pending.pop()
            if name and not packer.add(parent, name, mode):
                continue
            if name and not stat.S_ISDIR(mode):
                continue
            path = f"{parent}/{name}" if parent else name
            listing = packer.list(path)
            listing.sort(key=lambda item: os.fsencode(item[0]), reverse=True)
            for child, child_mode in listing:
                if exclude is None or not exclude(f"{path}/{child}" if path else child):
                    pending.append((path, child, child_mode))
        return packer.finish()
    finally:
        packer.close()


class _Packer:
    """Turns paths below a root into archive entries."""

    def __init__(
        self,
        write: Write,
        root: str | int,
        clamp: int | None,
        owner: OwnerMap | None,
        owners: Owners | None = None,
    ) -> None:
        self.tar = TarWriter(write)
        self.clamp = clamp
        self.owner, self.owners = owner, owners
        self.root_fd = os.open(root, READ) if isinstance(root, str) else os.open(".", READ, dir_fd=root)
        self.dirs = DirCache(self.root_fd)
        self.parent: tuple[str, Dir] = ("", self.dirs.root)
        self.links: dict[tuple[int, int], str] = {}
        self.buffer = bytearray(_BUFFER)
        self.bytes = 0
        self.whiteouts = 0
        self.skipped: list[str] = []

    def close(self) -> None:
        self.dirs.clear()
        os.close(self.root_fd)

    def finish(self) -> Written:
        self.tar.close()
        return Written(self.tar.entries, self.bytes, self.whiteouts, tuple(self.skipped))

    def whiteout(self, name: str) -> None:
        self.tar.header(TarEntry(name, mode=0))
        self.whiteouts += 1

    def _enter(self, path: str) -> Dir:
        if self.parent[0] != path:
            self.dirs.trim()
            self.parent = (path, self.dirs.enter(path))
        return self.parent[1]

    def list(self, path: str) -> list[tuple[str, int]]:
        """Names in a directory with the type bits of their mode."""
        try:
            fd = os.open(".", READ, dir_fd=self._enter(path).fd)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            with os.scandir(fd) as listing:
                return [(item.name, _type_of(item)) for item in listing]
        finally:
            os.close(fd)

    def add(self, parent: str, name: str, mode: int) -> bool:
        """Write one path; False when it was skipped or is gone."""
        path = f"{parent}/{name}" if parent else name
        if name.startswith(whiteout.PREFIX):
            self.skipped.append(path)
            return False
        try:
            here = self._enter(parent)
            if stat.S_ISREG(mode) and self._file(here, name, path):
                return True
            status = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                return self._file(here, name, path)
            return self._other(here, name, path, status)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _entry(
        self,
        path: str,
        kind: Kind,
        status: os.stat_result,
        size: int = 0,
        link: str = "",
        xattrs: dict[str, bytes] | None = None,
    ) -> TarEntry:
        seconds = status.st_mtime_ns // _NANO
        if self.clamp is not None and seconds > self.clamp:
            seconds = self.clamp
        uid, gid = (status.st_uid, status.st_gid) if self.owners is None else self.owners.get(path)
        if self.owner is not None:
            uid, gid = self.owner(uid, gid)
        major = minor = 0
        if kind is Kind.CHAR or kind is Kind.BLOCK:
            major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        mode = (status.st_mode if self.owners is None else self.owners.mode(path, status.st_mode)) & 0o7777
        return TarEntry(path, kind, mode, uid, gid, size, seconds * _NANO, link, major, minor, "", "", xattrs or {})

    def _linked(self, path: str, status: os.stat_result) -> bool:
        """Write a hard link if another name of this inode went before."""
        if status.st_nlink < 2:
            return False
        key = (status.st_dev, status.st_ino)
        first = self.links.setdefault(key, path)
        if first == path:
            return False
        self.tar.header(self._entry(path, Kind.HARDLINK, status, link=first))
        return True

    def _file(self, here: Dir, name: str, path: str) -> bool:
        try:
            fd = os.open(name, _OPEN, dir_fd=here.fd)
        except OSError as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            return False  # no longer a regular file
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return False
            if self._linked(path, status):
                return True
            size = status.st_size
            self.tar.header(self._entry(path, Kind.FILE, status, size, xattrs=self._xattrs(fd, path)))
            self.bytes += size
            self._copy(fd, size, path)
            return True
        finally:
            os.close(fd)

    def _copy(self, fd: int, size: int, path: str) -> None:
        buffer = self.buffer
        view = memoryview(buffer)
        left = size
        while left:
            count = os.readv(fd, [view[:left]])
            if not count:
                raise FileChanged(path)
            self.tar.data(view[:count])
            left -= count
        self.tar.pad(size)

    @staticmethod
    def _xattrs(fd: int, path: str) -> dict[str, bytes]:
        names = os.listxattr(fd)
        if not names:
            return {}
        if any(prefix + "metacopy" in names for prefix in whiteout.OVERLAY_PREFIXES):
            raise Unsupported(f"{path!r} holds no data: its overlay was mounted with metacopy")
        return read_xattrs(fd)

    def _other(self, here: Dir, name: str, path: str, status: os.stat_result) -> bool:
        mode = status.st_mode
        link = ""
        if stat.S_ISDIR(mode):
            kind = Kind.DIR
        elif stat.S_ISLNK(mode):
            kind = Kind.SYMLINK
            link = os.readlink(name, dir_fd=here.fd)
        elif stat.S_ISFIFO(mode):
            kind = Kind.FIFO
        elif stat.S_ISCHR(mode) and not whiteout.is_overlay_whiteout(status):
            kind = Kind.CHAR
        elif stat.S_ISBLK(mode):
            kind = Kind.BLOCK
        else:  # a socket means nothing without its process; a 0:0 device would delete a name elsewhere
            self.skipped.append(path)
            return False
        if kind is not Kind.DIR and self._linked(path, status):
            return True
        xattrs = read_xattrs(f"/proc/self/fd/{here.fd}/{name}")
        self.tar.header(self._entry(path, kind, status, link=link, xattrs=xattrs))
        return True


def _type_of(item: os.DirEntry[str]) -> int:
    if item.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if item.is_file(follow_symlinks=False):
        return stat.S_IFREG
    return 0
