"""Write what a copy selected into a destination tree (D24-D28, D35).

Destinations are resolved inside the tree's root, whatever links the image holds. Times are part of a layer's digest, so
they are never those of the build: what comes from a context gets one fixed time, directories that were merely written
into get theirs back (design.md, decision 10).
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from threading import Event

from lamina.build.graph.definitions import Copy
from lamina.build.ops.modes import ModeChange, parse_mode
from lamina.build.ops.selection import Selected, is_copied_attribute
from lamina.build.ops.tree import Entry, SourceTree
from lamina.errors import Cancelled, Conflict
from lamina.layer.owners import Owners, held_mode, path_inside, recorded
from lamina.runtime import rootfs, users
from lamina.values import dataclass, field

_SMALL = 128 << 10
_CHUNK = 8 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class CopyConflict(Conflict):
    """A file would land on a directory, or the other way round; the message is BuildKit's."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns what is copied, and with which bits.

    Attributes:
        uid, gid: for everything, or None to keep the source's.
        mode: change of the permission bits, or None.
        time_ns: modification time for everything, or None to keep the source's.
        new_time_ns: modification time of directories made on the way.
    """

    uid: int | None
    gid: int | None
    mode: ModeChange | None
    time_ns: int | None
    new_time_ns: int

    @classmethod
    def of(cls, copy: Copy, root: str, time_ns: int) -> Ownership:
        """What a definition asks for, names resolved in the destination (D26).

        Raises:
            NoSuchUser: a name that the destination's passwd or group file lacks.
            InvalidMode: a malformed mode.
        """
        mode = parse_mode(copy.mode) if copy.mode else None
        kept = None if copy.keep_owner else time_ns
        if copy.owner:
            user = users.resolve(root, copy.owner)
            # A number alone is both ids, whatever group the user of that number has.
            group = user.uid if copy.owner.isdigit() else user.gid
            return cls(user.uid, group, mode, kept, time_ns)
        return cls(None, None, mode, kept, time_ns) if copy.keep_owner else cls(0, 0, mode, kept, time_ns)


@dataclass(slots=True)
class Destination:
    """The tree that is written into.

    Attributes:
        root: its directory on this machine.
        fd: a descriptor of it.
        times: what each directory's times become in the end, by path inside the tree.
        links: where an inode of the source was written first, to keep hard links.
        owners: the record of owners and modes that the disk does not hold, or None where it does.
    """

    root: str
    fd: int
    owners: Owners | None = None
    times: dict[str, int] = field(default_factory=dict)
    links: dict[tuple[int, int], str] = field(default_factory=dict)

    def directory(self, path: str, ownership: Ownership) -> int:
        """A descriptor of a directory in the tree, made with its parents when missing; the caller closes it."""
        stubs = rootfs.missing_stubs(self.root, [path])
        for stub in stubs:
            if stub.parent_times is not None:
                self.times.setdefault(stub.parent, stub.parent_times[1])
            self.times[posixpath.join(stub.parent, stub.name)] = ownership.new_time_ns
        try:
            made = rootfs.make_directories(
                self.fd, path, uid=ownership.uid or 0, gid=ownership.gid or 0, owners=self.owners
            )
        except rootfs.UnsafePath as error:
            raise CopyConflict(f"cannot copy to non-directory: {path}", path) from error
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=made)
        finally:
            os.close(made)

    def own(self, fd: int, uid: int, gid: int, mode: int, *, directory: bool) -> None:
        """Give an open file or directory its owner, and then its permission bits: chown clears setuid."""
        if self.owners is None:
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
        else:
            self.owners.set(path_inside(self.fd, fd), uid, gid, mode, directory=directory)
            os.fchmod(fd, held_mode(mode, directory=directory))

    def own_name(self, parent: int, name: str, uid: int, gid: int) -> None:
        """Give what cannot be opened its owner."""
        if self.owners is None:
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        else:
            self.owners.set(path_inside(self.fd, parent, name), uid, gid)

    def settle(self) -> None:
        """Give every directory that was written into the times it shall have, deepest first; keep the record."""
        if self.owners is not None:
            self.owners.save()
        for path in sorted(self.times, key=len, reverse=True):
            try:
                fd = rootfs.open_path(self.fd, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # written as a file meanwhile
            try:
                os.utime(fd, ns=(self.times[path], self.times[path]))
            finally:
                os.close(fd)


def copy_into(
    root: str,
    tree: SourceTree,
    selected: list[Selected],
    copy: Copy,
    *,
    time_ns: int,
    cancelled: Event | None = None,
) -> None:
    """Copy the selected sources to `copy.dest` below `root`.

    Args:
        root: the destination tree, mounted.
        tree: where the sources are.
        selected: by `selection.select`.
        copy: the definition.
        time_ns: modification time of everything that does not keep its own.
        cancelled: when set the copy stops.

    Raises:
        CopyConflict: a file meets a directory.
        Cancelled: `cancelled` was set.
    """
    destination = Destination(root, os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), recorded(root))
    try:
        ownership = Ownership.of(copy, root, time_ns)
        into_directory = copy.dest.endswith("/") or len(copy.sources) > 1 or len(selected) > 1 or copy.parents
        for source in selected:
            _Copier(destination, tree, ownership, cancelled).copy(source, copy.dest, into_directory=into_directory)
        destination.settle()
    finally:
        os.close(destination.fd)


class _Copier:
    """One source on its way into the tree."""

    def __init__(
        self, destination: Destination, tree: SourceTree, ownership: Ownership, cancelled: Event | None
    ) -> None:
        self._to, self._tree, self._owner, self._cancelled = destination, tree, ownership, cancelled

    def copy(self, source: Selected, dest: str, *, into_directory: bool) -> None:
        base = posixpath.normpath("/" + dest.lstrip("/"))
        if source.prefix:
            base = posixpath.join(base, source.prefix)
        if source.is_directory:
            self._contents(source, base)
            return
        if into_directory or self._is_directory(base):
            directory, name = base, source.name
        else:
            directory, name = posixpath.split(base)
            if not name:
                directory, name = "/", source.name
        fd = self._to.directory(directory, self._owner)
        try:
            self._remember(directory, fd)
            for entry in source.entries(self._tree):
                self._put(entry, fd, name, posixpath.join(directory, name))
        finally:
            os.close(fd)

    def _is_directory(self, path: str) -> bool:
        try:
            fd = rootfs.open_path(self._to.fd, path, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return False
        os.close(fd)
        return True

    def _remember(self, path: str, fd: int) -> None:
        self._to.times.setdefault(path, os.fstat(fd).st_mtime_ns)

    def _contents(self, source: Selected, base: str) -> None:
        """Merge a directory's contents into `base`; one open descriptor for each level of the walk."""
        existed = self._is_directory(base)
        levels: list[tuple[str, int]] = []
        try:
            for entry in source.entries(self._tree):
                if not entry.relative:
                    fd = self._to.directory(base, self._owner)
                    levels.append(("", fd))
                    if existed:
                        self._remember(base, fd)
                    else:
                        self._dress_directory(entry, fd, base)
                    continue
                parent, _, name = entry.relative.rpartition("/")
                while levels[-1][0] != parent:
                    os.close(levels.pop()[1])
                path = posixpath.join(base, entry.relative)
                if entry.is_directory:
                    fd = self._make_directory(levels[-1][1], name, path)
                    levels.append((entry.relative, fd))
                    self._dress_directory(entry, fd, path)
                else:
                    self._put(entry, levels[-1][1], name, path)
        finally:
            for _, fd in levels:
                os.close(fd)

    def _make_directory(self, parent: int, name: str, path: str) -> int:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(facts.st_mode):
                raise CopyConflict(f"cannot copy to non-directory: {path}", path) from None
        return os.open(name, _DIRECTORY, dir_fd=parent)

    def _dress_directory(self, entry: Entry, fd: int, path: str) -> None:
        self._dress(entry, fd)
        self._to.times[path] = entry.facts.st_mtime_ns if self._owner.time_ns is None else self._owner.time_ns

    def _dress(self, entry: Entry, fd: int) -> None:
        """Owner and mode, and attributes before times."""
        self._to.own(fd, *self._owner_of(entry), self._bits_of(entry), directory=entry.is_directory)
        if self._owner.time_ns is None:
            _copy_attributes(entry, fd)

    def _owner_of(self, entry: Entry) -> tuple[int, int]:
        if self._owner.uid is not None and self._owner.gid is not None:
            return self._owner.uid, self._owner.gid
        return self._tree.owner_of(entry)

    def _bits_of(self, entry: Entry) -> int:
        bits = stat.S_IMODE(self._tree.mode_of(entry))
        return self._owner.mode(bits, entry.is_directory) if self._owner.mode else bits

    def _put(self, entry: Entry, parent: int, name: str, path: str) -> None:
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled("the copy was cancelled")
        kind = stat.S_IFMT(entry.facts.st_mode)
        if kind == stat.S_IFSOCK:
            return  # a socket without its process is nothing; every archiver leaves it out
        if kind == stat.S_IFREG:
            # Mostly there is nothing to make room for, and asking first would cost a call for every file.
            try:
                self._file(entry, parent, name, path)
            except FileExistsError:
                _clear(parent, name, path)
                self._file(entry, parent, name, path)
            return
        _clear(parent, name, path)
        if kind == stat.S_IFLNK:
            os.symlink(entry.readlink(), name, dir_fd=parent)
            self._dress_link(entry, parent, name)
        else:
            os.mknod(name, kind | 0o600, entry.facts.st_rdev, dir_fd=parent)
            self._dress_special(entry, parent, name)

    def _times(self, entry: Entry) -> tuple[int, int]:
        moment = entry.facts.st_mtime_ns if self._owner.time_ns is None else self._owner.time_ns
        return moment, moment

    def _dress_link(self, entry: Entry, parent: int, name: str) -> None:
        self._to.own_name(parent, name, *self._owner_of(entry))
        os.utime(name, ns=self._times(entry), dir_fd=parent, follow_symlinks=False)

    def _dress_special(self, entry: Entry, parent: int, name: str) -> None:
        self._dress_link(entry, parent, name)
        os.chmod(name, self._bits_of(entry), dir_fd=parent)
        os.utime(name, ns=self._times(entry), dir_fd=parent, follow_symlinks=False)

    def _file(self, entry: Entry, parent: int, name: str, path: str) -> None:
        inode = (entry.facts.st_dev, entry.facts.st_ino)
        if entry.facts.st_nlink > 1 and inode in self._to.links:
            # Found again by its path: a descriptor for each of thousands of links would be too many.
            directory, first = posixpath.split(self._to.links[inode])
            fd = rootfs.open_path(self._to.fd, directory, os.O_PATH | os.O_DIRECTORY)
            try:
                os.link(first, name, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(fd)
            if self._to.owners is not None:
                inside = path_inside(self._to.fd, parent, name)
                self._to.owners.set(inside, *self._owner_of(entry), self._bits_of(entry))
            return
        source = entry.open()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=parent)
            try:
                _copy_bytes(source, target, entry.facts.st_size)
                self._dress(entry, target)
                os.utime(target, ns=self._times(entry))
            finally:
                os.close(target)
        finally:
            os.close(source)
        if entry.facts.st_nlink > 1:
            self._to.links[inode] = path


def _clear(parent: int, name: str, path: str) -> None:
    """Make room: whatever is not a directory is replaced."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError as error:
        raise CopyConflict(f"cannot overwrite directory {path} with non-directory", path) from error


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy to the end of the source, inside the kernel where it pays and the file systems allow it."""
    if size > _SMALL:
        try:
            while os.copy_file_range(source, target, _CHUNK):
                pass
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
    while data := os.read(source, _CHUNK if size > _SMALL else size + 1):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        if len(data) <= size <= _SMALL:
            break


def _copy_attributes(entry: Entry, fd: int) -> None:
    path = f"/proc/self/fd/{entry.directory_fd}/{entry.name}"
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return
    for name in names:
        if is_copied_attribute(name):
            os.setxattr(fd, name, os.getxattr(path, name, follow_symlinks=False))
