"""The file layer: every change the store makes on disk passes here.

It is a thin cover over os, and the one place where tests cut the power, fill the disk or break a write
(`lamina.testing.faults`). Reading goes straight to os. File trees of snapshots are written by `lamina.layer` for speed;
their durability still passes here, through `sync_tree`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from contextlib import suppress
from typing import Final, NoReturn

from lamina.errors import LimitExceeded, Unavailable

# <linux/fs.h>: FS_IOC_GETFLAGS and FS_IOC_SETFLAGS (declared with long, read and written as int), FS_TOPDIR_FL
_GET_FLAGS: Final = 0x80086601 if sys.maxsize > 1 << 32 else 0x80046601
_SET_FLAGS: Final = 0x40086602 if sys.maxsize > 1 << 32 else 0x40046602
_TOP_DIRECTORY: Final = 0x00020000
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoreFull(LimitExceeded):
    """No space, no inodes or no quota left (F6).

    Attributes:
        path: what could not be written.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot write {path}: {reason}", hint="free space, or run `lamina system prune`")
        self.path = path


class StoreIOFailed(Unavailable):
    """The disk, or the kernel, refused a change (F7).

    Attributes:
        path: what could not be written.
        errno: the error number.
    """

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {error.strerror or error}")
        self.path, self.errno = path, error.errno


def raise_typed(path: str, error: OSError) -> NoReturn:
    """Turns an OSError of a change into the store's error.

    Raises:
        StoreFull: no space, inodes or quota.
        StoreIOFailed: anything else.
    """
    if error.errno in _FULL:
        raise StoreFull(path, error.strerror or str(error)) from error
    raise StoreIOFailed(path, error) from error


class Files:
    """Changes on disk. Methods raise OSError as os does; callers translate with `raise_typed`."""

    def step(self, name: str) -> None:
        """Called at points that are no file operation but can be the last thing a process does."""

    def create(self, path: str) -> int:
        """Opens a file for reading and writing, created with mode 0600 whatever the umask is (threat 59)."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        os.fchmod(fd, 0o600)
        return fd

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> None:
        """Writes all of `data` at the file's position."""
        done = os.write(fd, data)
        if done < len(data):
            view = memoryview(data)
            while done < len(view):
                done += os.write(fd, view[done:])

    def truncate(self, fd: int, size: int) -> None:
        """Cuts the file and moves its position to the end."""
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)

    def sync(self, fd: int) -> None:
        """Returns when the file's bytes are on disk."""
        os.fsync(fd)

    def sync_dir(self, path: str) -> None:
        """Returns when the entries of a directory are on disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_tree(self, path: str) -> None:
        """Returns when everything below a directory is on disk: one syncfs(2) of its file system."""
        from lamina.linux import syscalls

        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.syncfs(fd)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        """Moves a file or directory; a file at `target` is replaced."""
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        """Removes a file."""
        os.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        """Makes a directory with exactly this mode."""
        os.mkdir(path, mode)
        os.chmod(path, mode)

    def spread(self, path: str) -> None:
        """Says that the directories made in this one are unrelated, so that ext4 gives each a place of its own.

        Layers that unpack in parallel then do not share an inode bitmap, and none is put where a tree was deleted:
        ext4 passes over recently deleted inodes again for every file it makes near them (measured: a layer of 4,000
        files after a removal took 0.9 to 3.6 s of system time, spread 0.3 s). Other file systems know no such thing.
        """
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = bytearray(8)
            fcntl.ioctl(fd, _GET_FLAGS, flags)
            value = int.from_bytes(flags[:4], sys.byteorder) | _TOP_DIRECTORY
            fcntl.ioctl(fd, _SET_FLAGS, value.to_bytes(4, sys.byteorder) + bytes(4))
        except OSError:
            pass  # a hint only
        finally:
            os.close(fd)

    def rmdir(self, path: str) -> None:
        """Removes an empty directory."""
        os.rmdir(path)

    def remove_tree(self, path: str) -> int:
        """Removes a directory and everything below it, never following a link, never leaving its file system.

        Trees of unlimited depth are fine. A tree that is gone already is success.

        Returns:
            The bytes of disk that its files took.

        Raises:
            OSError: EBUSY for a mount point inside, or any other refusal; what could be removed is.
        """
        try:
            parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            return _remove_at(parent, os.path.basename(path))
        finally:
            os.close(parent)


def _remove_at(top: int, name: str) -> int:
    """Removes `name` below the directory `top`, walking with one open directory at a time for each level it climbs."""
    freed = 0
    try:
        info = os.stat(name, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if not stat.S_ISDIR(info.st_mode):
        os.unlink(name, dir_fd=top)
        return info.st_blocks * 512 if info.st_nlink == 1 else 0
    device = info.st_dev
    # (name, open directory, its subdirectories still to do); parents are re-opened through "..", so depth costs no fds.
    fd = _open_below(top, name)
    pending: list[tuple[str, list[str]]] = []
    try:
        directories, gone = _remove_files(fd, device)
        freed += gone + info.st_blocks * 512
        pending.append((name, directories))
        while pending:
            current, directories = pending[-1]
            if directories:
                child = directories.pop()
                below = _open_below(fd, child)
                os.close(fd)
                fd = below
                found, gone = _remove_files(fd, device)
                freed += gone + os.fstat(fd).st_blocks * 512
                pending.append((child, found))
                continue
            pending.pop()
            above = top if not pending else os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = above
            os.rmdir(current, dir_fd=above)
    finally:
        if fd != top:
            with suppress(OSError):
                os.close(fd)
    return freed


def _open_below(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        # A directory without read or search permission, which its owner may still remove (rootless).
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=True)
        return os.open(name, flags, dir_fd=parent)


def _remove_files(fd: int, device: int) -> tuple[list[str], int]:
    """Removes what is no directory; returns the directories and the bytes freed."""
    directories: list[str] = []
    freed = 0
    if os.fstat(fd).st_dev != device:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "something is mounted inside")
    with os.scandir(fd) as entries:
        listed = list(entries)
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.name)
            continue
        info = entry.stat(follow_symlinks=False)
        if info.st_nlink == 1:
            freed += info.st_blocks * 512
        os.unlink(entry.name, dir_fd=fd)
    return directories, freed
