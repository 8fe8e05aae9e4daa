"""Copies files and directories from one directory descriptor to another, never through a link (threat 33)."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import Any, Final

from lamina.errors import Conflict
from lamina.values import dataclass

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 8 << 20
_BLOCK: Final = 512


class CannotOverwrite(Conflict):
    """A file would land on a directory, or the other way round."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns the copies; None keeps the source's."""

    uid: int
    gid: int


def copy(source: int, name: str, target: int, new_name: str, owner: Owner | None) -> int:
    """Copies `name` of one directory as `new_name` of another; directories are merged, files replaced as a whole.

    Returns:
        The bytes that a tar of it would have, without the end marker.

    Raises:
        CannotOverwrite: see there.
        OSError: of either file system.
    """
    facts = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(facts.st_mode):
        return _directory(source, name, target, new_name, facts, owner)
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(new_name, dir_fd=target, follow_symlinks=False).st_mode):
            raise CannotOverwrite(f'cannot overwrite directory "{new_name}" with non-directory "{name}"')
    # Under another name first: whoever looks sees the old file or the new one, and a link there is replaced.
    temporary = f".lamina-{secrets.token_hex(8)}"
    try:
        size = _file(source, name, target, temporary, facts, owner)
        os.rename(temporary, new_name, src_dir_fd=target, dst_dir_fd=target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=target)
        raise
    return size


def copy_content(source: int, target: int, owner: Owner | None) -> int:
    """Copies all that is in one directory into another; returns and raises as `copy`."""
    fd = os.open(".", _DIRECTORY, dir_fd=source)
    try:
        names = sorted(os.listdir(fd))
        return sum(copy(fd, name, target, name, owner) for name in names)
    finally:
        os.close(fd)


def _directory(source: int, name: str, target: int, new_name: str, facts: os.stat_result, owner: Owner | None) -> int:
    inner = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        try:
            os.mkdir(new_name, 0o700, dir_fd=target)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(new_name, dir_fd=target, follow_symlinks=False).st_mode):
                raise CannotOverwrite(f'cannot overwrite non-directory "{new_name}" with directory "{name}"') from None
        copied = os.open(new_name, _DIRECTORY, dir_fd=target)
        try:
            size = _BLOCK + copy_content(inner, copied, owner)
            _facts(copied, facts, owner)
            _attributes(inner, copied)
        finally:
            os.close(copied)
    finally:
        os.close(inner)
    return size


def _file(source: int, name: str, target: int, new_name: str, facts: os.stat_result, owner: Owner | None) -> int:
    mode = facts.st_mode
    if stat.S_ISREG(mode):
        reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writing = os.open(new_name, flags, 0o600, dir_fd=target)
            try:
                size = 0
                while count := os.sendfile(writing, reading, None, _CHUNK):
                    size += count
                _facts(writing, facts, owner)
                _attributes(reading, writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        return _BLOCK + -(-size // _BLOCK) * _BLOCK
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), new_name, dir_fd=target)
    elif stat.S_ISSOCK(mode):
        raise CannotOverwrite(f'"{name}" is a socket, which cannot be copied')
    else:
        os.mknod(new_name, mode, facts.st_rdev, dir_fd=target)
    uid, gid = (owner.uid, owner.gid) if owner is not None else (facts.st_uid, facts.st_gid)
    os.chown(new_name, uid, gid, dir_fd=target, follow_symlinks=False)
    os.utime(new_name, ns=(facts.st_atime_ns, facts.st_mtime_ns), dir_fd=target, follow_symlinks=False)
    return _BLOCK


def _facts(fd: int, facts: os.stat_result, owner: Owner | None) -> None:
    os.fchown(fd, *((owner.uid, owner.gid) if owner is not None else (facts.st_uid, facts.st_gid)))
    os.fchmod(fd, stat.S_IMODE(facts.st_mode))
    os.utime(fd, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _attributes(source: int, target: int) -> None:
    for name in os.listxattr(source):
        if name.startswith(("user.", "security.capability")):
            with suppress(OSError):  # the other file system may not know them
                os.setxattr(target, name, os.getxattr(source, name))


def write_tar(archive: Any, source: int, name: str, shown: str) -> None:
    """Adds `name` of a directory, and all below it, to a `tarfile.TarFile` as `shown`."""
    import tarfile

    facts = os.stat(name, dir_fd=source, follow_symlinks=False)
    info = tarfile.TarInfo(shown)
    info.mode, info.uid, info.gid, info.mtime = stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid, facts.st_mtime
    if stat.S_ISDIR(facts.st_mode):
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
        fd = os.open(name, _DIRECTORY, dir_fd=source)
        try:
            for each in sorted(os.listdir(fd)):
                write_tar(archive, fd, each, f"{shown}/{each}")
        finally:
            os.close(fd)
    elif stat.S_ISLNK(facts.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=source)
        archive.addfile(info)
    elif stat.S_ISREG(facts.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
        with os.fdopen(fd, "rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            archive.addfile(info, file)
    elif not stat.S_ISSOCK(facts.st_mode):
        kinds = {stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE}
        info.type = kinds[stat.S_IFMT(facts.st_mode)]
        info.devmajor, info.devminor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        archive.addfile(info)
