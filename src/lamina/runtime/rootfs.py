"""Paths inside a container's root file system, resolved as the container would and never out of it (threats 16, 24).

Every step goes through a descriptor of the root (openat2, RESOLVE_IN_ROOT): a link in the image that points at
`/etc` or `../../etc` means the image's, never the host's.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from lamina.errors import Invalid
from lamina.layer.owners import Owners, path_inside
from lamina.linux import syscalls
from lamina.values import dataclass

_LINKS: Final = 40  # what the kernel allows, path_resolution(7)
_RESOLVE: Final = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY


class UnsafePath(Invalid):
    """A path that an image must not use.

    Attributes:
        path: as the image or the user wrote it.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def opened(root: str) -> Iterator[int]:
    """A descriptor of the root directory, for the functions below."""
    fd = os.open(root, _DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def open_path(root_fd: int, path: str, flags: int = os.O_PATH) -> int:
    """Opens `path` as the container would see it.

    Returns:
        A descriptor, close-on-exec; the caller closes it.

    Raises:
        SyscallFailed: as open(2).
    """
    return syscalls.openat2(root_fd, path, flags, resolve=_RESOLVE)


def exists(root_fd: int, path: str) -> bool:
    """Whether `path` names something inside, following links."""
    try:
        os.close(open_path(root_fd, path))
    except OSError:
        return False
    return True


def make_directories(
    root_fd: int, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0, owners: Owners | None = None
) -> int:
    """Makes a directory and its missing parents; links on the way, dangling ones too, are followed inside the root.

    With `owners`, the owner is noted there, and the disk is not asked to hold it.

    Returns:
        A descriptor (O_PATH) of the directory; the caller closes it.

    Raises:
        UnsafePath: a part is not a directory, or links go round in circles.
    """

    def own(parent_fd: int, name: str) -> None:
        if owners is None:
            os.chown(name, uid, gid, dir_fd=parent_fd, follow_symlinks=False)
        else:
            owners.set(path_inside(root_fd, parent_fd, name), uid, gid)

    return _make(root_fd, posixpath.normpath("/" + path.lstrip("/")), mode, own, _LINKS)


def _make(root_fd: int, path: str, mode: int, own: Callable[[int, str], None], links: int) -> int:
    try:
        return open_path(root_fd, path, _DIRECTORY)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise UnsafePath(f"{path} in the image is not a directory: {error.strerror}", path) from None
    if links == 0:
        raise UnsafePath(f"{path} in the image has too many symbolic links", path)
    parent, name = posixpath.split(path)
    parent_fd = _make(root_fd, parent, mode, own, links)
    try:
        try:
            os.mkdir(name, mode, dir_fd=parent_fd)
        except FileExistsError:
            # It exists, yet did not resolve: a link to something missing. Make what it points at.
            try:
                target = os.readlink(name, dir_fd=parent_fd)
            except OSError:
                return open_path(parent_fd, name, _DIRECTORY)  # someone else made it meanwhile
            follow = posixpath.normpath("/" + posixpath.join(parent, target).lstrip("/"))
            return _make(root_fd, follow, mode, own, links - 1)
        own(parent_fd, name)
        os.chmod(name, mode, dir_fd=parent_fd)
        return open_path(parent_fd, name, _DIRECTORY | os.O_NOFOLLOW)
    finally:
        os.close(parent_fd)


def prepare_workdir(root: str, path: str, *, uid: int = 0, gid: int = 0) -> str:
    """Makes sure that the working directory exists and is one (threats 16 and 34: CVE-2024-21626).

    Args:
        root: the root file system on the host.
        path: the working directory, absolute; "" means `/`.
        uid: owner of the directories that have to be made.
        gid: group of them.

    Returns:
        The cleaned path, as the bundle names it.

    Raises:
        UnsafePath: relative, below `/proc`, or not a directory.
    """
    if not path:
        return "/"
    if not path.startswith("/"):
        raise UnsafePath(f"the working directory '{path}' is invalid, it needs to be an absolute path", path)
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/proc" or clean.startswith("/proc/"):
        raise UnsafePath(f"the working directory '{path}' is inside /proc", path)
    with opened(root) as root_fd:
        fd = make_directories(root_fd, clean, uid=uid, gid=gid)
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")
            base = os.readlink(f"/proc/self/fd/{root_fd}")
        finally:
            os.close(fd)
    inside = "/" + posixpath.relpath(real, base)
    if inside == "/proc" or inside.startswith("/proc/"):
        raise UnsafePath(f"the working directory '{path}' leads into /proc", path)
    return clean


@dataclass(frozen=True, slots=True)
class Stub:
    """A mount point that has to be made in the image for the time of a run.

    Attributes:
        parent: container path of the directory that holds it.
        name: its name there.
        parent_times: access and modification time of `parent` before, ns; None when `parent` was missing too.
    """

    parent: str
    name: str
    parent_times: tuple[int, int] | None


def missing_stubs(root: str, targets: Iterable[str]) -> list[Stub]:
    """What a runtime will have to make in `root` to mount at `targets`; parents come before children.

    Call it before the run and give the result to `remove_stubs` after it.
    """
    found: dict[str, Stub] = {}
    with opened(root) as root_fd:
        for target in targets:
            path = posixpath.normpath("/" + target.lstrip("/"))
            missing: list[str] = []
            while path != "/" and path not in found and not exists(root_fd, path):
                missing.append(path)
                path = posixpath.dirname(path)
            for path in reversed(missing):
                parent, name = posixpath.split(path)
                found[path] = Stub(parent, name, _times(root_fd, parent))
    return list(found.values())


def _times(root_fd: int, path: str) -> tuple[int, int] | None:
    try:
        fd = open_path(root_fd, path)
    except OSError:
        return None
    try:
        facts = os.stat(fd)
        return facts.st_atime_ns, facts.st_mtime_ns
    finally:
        os.close(fd)


def remove_stubs(root: str, stubs: Iterable[Stub]) -> None:
    """Removes mount points that the run did not fill, and gives their parents their times back.

    Only an empty file or an empty directory goes, by descriptor of its parent, never through a link: whatever the
    container put in its place meanwhile stays (CVE-2024-23652).
    """
    with opened(root) as root_fd:
        for stub in reversed(list(stubs)):
            try:
                parent_fd = open_path(root_fd, stub.parent, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                if _remove_empty(parent_fd, stub.name) and stub.parent_times is not None:
                    os.utime(parent_fd, ns=stub.parent_times)
            finally:
                os.close(parent_fd)


def _remove_empty(parent_fd: int, name: str) -> bool:
    try:
        facts = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            os.rmdir(name, dir_fd=parent_fd)
        elif stat.S_ISREG(facts.st_mode) and facts.st_size == 0:
            os.unlink(name, dir_fd=parent_fd)
        else:
            return False
    except OSError:
        return False
    return True


def note_stubs(path: str, stubs: Iterable[Stub]) -> None:
    """Writes stubs to a file, for whoever sees the end of the run."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps([[stub.parent, stub.name, stub.parent_times] for stub in stubs]))


def noted_stubs(path: str) -> list[Stub]:
    """The inverse of `note_stubs`; none when there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            noted = json.load(file)
    except (OSError, ValueError):
        return []
    return [Stub(parent, name, tuple(times) if times else None) for parent, name, times in noted]


def standing_stubs(root: str, stubs: Iterable[Stub]) -> frozenset[str]:
    """Paths, without a leading slash, of stubs that hold nothing, or nothing but other such stubs."""
    standing: set[str] = set()
    with opened(root) as root_fd:
        for stub in reversed(list(stubs)):
            path = posixpath.join(stub.parent, stub.name)
            try:
                fd = open_path(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                facts = os.stat(fd)
                if stat.S_ISDIR(facts.st_mode):
                    inside = os.listdir(f"/proc/self/fd/{fd}")
                    empty = all(posixpath.join(path, name).lstrip("/") in standing for name in inside)
                else:
                    empty = stat.S_ISREG(facts.st_mode) and facts.st_size == 0
            finally:
                os.close(fd)
            if empty:
                standing.add(path.lstrip("/"))
    return frozenset(standing)
