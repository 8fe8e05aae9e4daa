"""Files in and out of containers (`docker cp`, C17): by descriptors pinned in the container's root (threat 33).

A running container is entered by its first process's root, so that its volumes are seen; a stopped one is mounted, and
a path at or below a volume's target goes to the volume. No program of the image is run.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from lamina.engine import tree_copy
from lamina.engine.tree_copy import Owner
from lamina.errors import Conflict, Denied, Invalid, NotFound
from lamina.runtime import rootfs

if TYPE_CHECKING:
    from lamina.engine.engine import Engine
    from lamina.runtime.state import ContainerRecord

_OPEN = os.O_PATH | os.O_CLOEXEC
_END = 1024


class NoSuchFile(NotFound):
    """Nothing is there.

    Attributes:
        path: asked for.
    """

    def __init__(self, path: str, container: str = "") -> None:
        where = (
            f"Could not find the file {path} in container {container}"
            if container
            else f"lstat {path}: no such file or directory"
        )
        super().__init__(where)
        self.path = path


class PathRefused(Invalid):
    """The two ends of a copy do not fit, or the host's end is not there: what docker's client, not its daemon, says."""


class Place:
    """One end of a copy: a parent directory and a name in it; `whole` when all of a directory's content is meant."""

    def __init__(self, parent: int, name: str, *, shown: str, content: bool, slash: bool, container: str = "") -> None:
        self.parent, self.name, self.shown, self.container = parent, name, shown, container
        self.content, self.slash = content, slash

    def facts(self) -> os.stat_result | None:
        """What is there, a link itself; None for nothing."""
        try:
            return os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
        except FileNotFoundError:
            return None


class ContainerFiles:
    """Copies between the containers of an engine and the file system of the host."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def copy_out(self, container: str, path: str, local: str, *, archive: bool = False, follow: bool = False) -> int:
        """Copies out of a container; returns the bytes that a tar of it would have.

        Args:
            container: name or id.
            path: in the container; `dir/.` means the content of `dir`.
            local: absolute path on the host, a trailing slash kept.
            archive: keep owners; otherwise whoever copies owns the copies.
            follow: copy what a link at `path` points at.

        Raises:
            NoSuchContainer, NoSuchFile: not there.
            CannotOverwrite, Conflict, Invalid: the two ends do not fit.
        """
        owner = None if archive else Owner(os.geteuid(), os.getegid())
        with self._inside(container, path, follow=follow) as source, _local(local) as target:
            return _copy(source, target, owner)

    def copy_in(self, local: str, container: str, path: str, *, archive: bool = False, follow: bool = False) -> int:
        """Copies into a container, where root owns the copies unless `archive`; otherwise as `copy_out`."""
        owner = None if archive else Owner(0, 0)
        with _local(local, follow=follow, must_exist=True) as source:
            with self._inside(container, path, follow=True, writing=True) as target:
                return _copy(source, target, owner)

    def tar_out(self, container: str, path: str, stream: IO[bytes], *, follow: bool = False) -> None:
        """Writes a tar of a file or directory in a container, named as its last part; raises as `copy_out`."""
        import tarfile

        with self._inside(container, path, follow=follow) as source:
            if source.facts() is None:
                raise NoSuchFile(path, container)
            shown = "." if source.content else posixpath.basename(posixpath.normpath(path)) or "."
            with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                tree_copy.write_tar(archive, source.parent, source.name, shown)

    def tar_in(self, stream: IO[bytes], container: str, path: str) -> None:
        """Extracts a tar, compressed or not, into an existing directory of a container.

        Raises:
            NoSuchContainer, NoSuchFile: not there.
            Conflict: not a directory.
            BadArchive, UnsafeEntry: the tar is damaged, or an entry would leave the directory.
        """
        from lamina.layer.apply import WhiteoutMode, apply_layer
        from lamina.layer.compression import decompress

        with self._inside(container, path, follow=True, writing=True) as target:
            facts = target.facts()
            if facts is None:
                raise PathRefused(f'destination "{container}:{path}" must be a directory')
            if not stat.S_ISDIR(facts.st_mode):
                raise Conflict("extraction point is not a directory")
            fd = os.open(target.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=target.parent)
            try:
                # Decompressed here, in our own process, before anything of the image is touched.
                apply_layer(decompress(stream), fd, whiteouts=WhiteoutMode.REMOVE)
            finally:
                os.close(fd)

    @contextmanager
    def _inside(self, container: str, path: str, *, follow: bool, writing: bool = False) -> Iterator[Place]:
        supervisor = self._engine.containers.supervisor
        with supervisor.file_system(container) as (record, mounted):
            clean = posixpath.normpath("/" + path.lstrip("/"))
            base, rest, readonly = (f"/proc/{record.state.pid}/root", clean, False)
            if not record.state.running:
                base, rest, readonly = _volume(record, mounted, clean)
            if writing and (
                readonly or (record.options.get("read_only") and base in {mounted, f"/proc/{record.state.pid}/root"})
            ):
                what = "mounted volume is marked read-only" if readonly else "container rootfs is marked read-only"
                raise Denied(what)
            root = os.open(base, _OPEN | os.O_DIRECTORY)
            try:
                if follow:
                    rest = _followed(root, rest)
                directory, name = posixpath.split(rest)
                try:
                    parent = rootfs.open_path(root, directory, os.O_RDONLY | os.O_DIRECTORY)
                except OSError as error:
                    if writing and error.errno == errno.ENOTDIR:
                        raise Conflict("extraction point is not a directory") from None
                    raise NoSuchFile(posixpath.dirname(clean) if writing else path, container) from None
                try:
                    yield Place(
                        parent,
                        name or ".",
                        shown=path,
                        content=path.endswith("/.") or path == ".",
                        slash=path.endswith("/"),
                        container=container,
                    )
                finally:
                    os.close(parent)
            finally:
                os.close(root)


def _volume(record: ContainerRecord, mounted: str, path: str) -> tuple[str, str, bool]:
    """Where a path of a stopped container lies: the directory to start from, the rest, whether it is read-only."""
    best: dict[str, Any] | None = None
    for doc in record.mounts:
        target = str(doc["target"])
        inside = path == target or path.startswith(target.rstrip("/") + "/")
        if doc["type"] in {"volume", "bind"} and inside and (best is None or len(target) > len(best["target"])):
            best = dict(doc)
    if best is None:
        return mounted, path, False
    base = str(best["path"] if best["type"] == "volume" else best["source"])
    base = posixpath.join(base, str(best.get("subpath", "")))
    rest = "/" + path[len(str(best["target"])) :].lstrip("/")
    if not os.path.isdir(base):
        return posixpath.dirname(base), "/" + posixpath.basename(base), bool(best.get("readonly"))
    return base, rest, bool(best.get("readonly"))


def _followed(root: int, path: str) -> str:
    """The path that a link at its end leads to, inside the root; the path itself when nothing is there."""
    try:
        fd = rootfs.open_path(root, path)
    except OSError:
        return path
    try:
        real = os.readlink(f"/proc/self/fd/{fd}")
        base = os.readlink(f"/proc/self/fd/{root}")
    finally:
        os.close(fd)
    return posixpath.normpath("/" + posixpath.relpath(real, base))


@contextmanager
def _local(path: str, *, follow: bool = False, must_exist: bool = False) -> Iterator[Place]:
    clean = os.path.normpath(path)
    if must_exist and not os.path.lexists(clean):
        raise PathRefused(f"lstat {path}: no such file or directory")
    # A slash at the end follows a link, as everywhere; so does writing to one that leads to a directory.
    if follow or path.endswith(("/", "/.")) or (not must_exist and os.path.isdir(clean)):
        clean = os.path.realpath(clean)
    directory, name = os.path.split(clean)
    try:
        parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError:
        raise PathRefused(f"stat {path}: not a directory") from None
    except OSError:
        raise PathRefused(f'invalid output path: directory "{directory}" does not exist') from None
    try:
        yield Place(
            parent, name or ".", shown=path, content=path.endswith("/.") or path == ".", slash=path.endswith("/")
        )
    finally:
        os.close(parent)


def _copy(source: Place, target: Place, owner: Owner | None) -> int:
    """Docker's rules of what lands where (docker container cp, Extended description)."""
    facts = source.facts()
    if facts is None:
        raise NoSuchFile(source.shown, source.container)
    existing = target.facts()
    is_directory = stat.S_ISDIR(facts.st_mode)
    if source.slash and not is_directory:
        if not source.container:
            raise PathRefused("not a directory")
        raise Conflict(f"{source.shown} is not a directory")
    if existing is not None and stat.S_ISDIR(existing.st_mode):
        inner = os.open(target.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=target.parent)
        try:
            if not (is_directory and source.content):
                name = source.name if source.name != "." else os.path.basename(os.path.normpath(source.shown)) or "root"
                return _END + tree_copy.copy(source.parent, source.name, inner, name, owner)
            opened = os.open(source.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=source.parent)
            try:
                return _END + tree_copy.copy_content(opened, inner, owner)
            finally:
                os.close(opened)
        finally:
            os.close(inner)
    if is_directory and existing is not None:
        raise PathRefused("cannot copy directory")
    if not is_directory and target.slash:
        if existing is not None and not target.container:
            raise PathRefused(f"stat {target.shown}: not a directory")
        raise PathRefused("no such directory")
    return _END + tree_copy.copy(source.parent, source.name, target.parent, target.name, owner)
