"""Apply a layer archive to a directory: the hot path of every pull.

Two uses. `WhiteoutMode.OVERLAY` unpacks one layer alone into its own upper directory, so that all layers of an image
unpack in parallel; whiteouts become overlay whiteouts and opaque marks, and what only the layers below can decide is
reported (`Applied.implicit_dirs`, `NeedsParents`). `WhiteoutMode.REMOVE` applies a layer on top of a merged tree and
deletes what it hides. Semantics: OCI image-spec, layer.md "Applying Changesets".

Directory attributes are set last, deepest first, so that neither later entries nor restrictive modes disturb them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from lamina.layer import whiteout
from lamina.layer.applied import (
    Applied,
    ApplyDenied,
    ApplyFailed,
    Devices,
    LowerEntry,
    LowerLookup,
    NeedsParents,
    Ownership,
    WhiteoutMode,
)
from lamina.layer.digesting import Readable
from lamina.layer.dirs import READ, Dir, DirCache
from lamina.layer.entry import BadArchive, Kind, TarEntry
from lamina.layer.fresh import chmod_node, current_umask, is_plain
from lamina.layer.limits import DEFAULT_LIMITS, LayerLimit, Limits
from lamina.layer.owners import Owners, held_mode, recorded
from lamina.layer.paths import UnsafeEntry, clean
from lamina.layer.reader import TarReader
from lamina.layer.removal import empty, names_in
from lamina.layer.xattrs import drop_xattrs, set_xattrs

# fmt: off
__all__ = [
    "Applied", "ApplyDenied", "ApplyFailed", "Devices", "LowerEntry", "LowerLookup", "NeedsParents", "Ownership",
    "WhiteoutMode", "apply_layer",
]
# fmt: on

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_TIME = (1 << 40) * 1_000_000_000


def apply_layer(
    stream: Readable,
    root: str | int,
    *,
    whiteouts: WhiteoutMode,
    limits: Limits = DEFAULT_LIMITS,
    ownership: Ownership | None = None,
    devices: Devices | None = None,
    lower: LowerLookup | None = None,
    userxattr: bool = False,
    owners: Owners | None = None,
) -> Applied:
    """Unpack a tar stream into `root`.

    Args:
        stream: uncompressed tar; read to its very end, so a hashing reader below it saw every byte.
        root: an existing directory, by path or by descriptor. It is trusted; everything below it is not.
        whiteouts: see `WhiteoutMode`. The lowest layer of an image has nothing to hide: use REMOVE for it.
        limits: bounds.
        ownership: default KEEP for root; else owners are recorded beside a `root` given by path.
        devices: default CREATE for root, else SKIP.
        lower: OVERLAY mode: what lies below. With it, implicit directories get the attributes of the lower ones and
            lower links are followed, so nothing is left to fix.
        userxattr: mark opaque directories with `user.overlay.opaque`, for mounts with the `userxattr` option.
        owners: a record to note owners in instead.

    Returns:
        What was done. Data are not synced; call syncfs once for all layers.

    Raises:
        BadArchive: the archive is damaged.
        UnsafeEntry: an entry tries to leave the root or to turn it into something else.
        LayerLimit: more than the limits allow.
        NeedsParents: OVERLAY mode met a hard link to a file of a lower layer.
        ApplyFailed, ApplyDenied: the system refused. The root then holds a part of the layer.
    """
    is_root = os.geteuid() == 0
    with _refused():
        if isinstance(root, str) and owners is None and ownership is None:
            owners = recorded(root)
        fd = os.open(root, READ) if isinstance(root, str) else os.open(".", READ, dir_fd=root)
    try:
        with _refused():
            applier = _Applier(
                stream,
                fd,
                whiteouts is WhiteoutMode.OVERLAY,
                limits,
                (ownership or (Ownership.KEEP if is_root else Ownership.IGNORE)) is Ownership.KEEP,
                (devices or (Devices.CREATE if is_root else Devices.SKIP)) is Devices.CREATE,
                lower,
                userxattr,
                owners,
            )
        try:
            return applier.run()
        finally:
            applier.close()
    finally:
        os.close(fd)


@contextmanager
def _refused() -> Iterator[None]:
    """Gives what the system refuses before the first entry its kind."""
    try:
        yield
    except OSError as error:
        raise ApplyFailed("", error) from error


class _Applier:
    """State of one application."""

    def __init__(
        self,
        stream: Readable,
        root_fd: int,
        overlay: bool,
        limits: Limits,
        keep_owner: bool,
        make_devices: bool,
        lower: LowerLookup | None,
        userxattr: bool,
        owners: Owners | None,
    ) -> None:
        self.owners = owners
        self.reader = TarReader(stream, limits=limits)
        self.root_fd = root_fd
        self.overlay = overlay
        self.limits = limits
        self.keep_owner = keep_owner
        self.make_devices = make_devices
        self.lower = lower if overlay else None
        self.userxattr = userxattr
        self.umask = current_umask()
        # What a new file has by itself needs no call. Only where nothing was before: default ACLs, setgid directories
        # and group-inheriting mounts change what a new file gets.
        plain = is_plain(root_fd)
        self.given_modes = 0o777 & ~self.umask if plain else 0
        self.given_owner = (os.geteuid(), os.getegid()) if plain else None
        self.dirs = DirCache(root_fd)
        self.by_name: dict[str, Dir] = {}  # parent part of a name, as written -> directory
        self.entry: TarEntry | None = None
        # Canonical paths of what this layer made. Directories of lower layers on the way count as made too, in
        # REMOVE mode, because a whiteout must not take them from under an entry of this layer.
        self.own: set[str] = {""}
        self.attributes: dict[str, TarEntry] = {}  # directories, set at the end
        self.implicit: set[str] = set()
        self.hidden: set[str] = set()  # overlay whiteouts made
        self.opaque: set[str] = set()  # directories whose lower content is hidden
        self.replaced: set[str] = set()  # those whose lower namesake is hidden itself, attributes and all
        self.stale: set[str] = set()  # implicit directories that still have attributes of a hidden one
        self.reused: set[str] = set()  # directories with an entry here that existed before
        self.aufs_links = False
        self.files = self.bytes = self.whiteouts = self.opaques = 0
        self.devices_skipped = self.xattrs_skipped = 0

    def close(self) -> None:
        self.dirs.clear()

    def run(self) -> Applied:
        reader = self.reader
        entry: TarEntry | None = None
        try:
            while (entry := reader.next()) is not None:
                self._apply(entry)
            reader.drain()
            self._finish()
            if self.owners is not None:
                self.owners.save()
        except OSError as error:
            name = entry.name if entry is not None else ""
            if entry is not None and error.errno in {errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}:
                raise UnsafeEntry(name, os.strerror(error.errno)) from error
            if error.errno in {errno.EPERM, errno.EACCES, errno.EINVAL}:  # EINVAL: an owner outside the user namespace
                raise ApplyDenied(name, error) from error
            raise ApplyFailed(name, error) from error
        return Applied(
            reader.entries,
            self.files,
            self.bytes,
            reader.position,
            tuple(sorted(self.implicit)),
            self.whiteouts,
            self.opaques,
            self.devices_skipped,
            self.xattrs_skipped,
        )

    # --- one entry -----------------------------------------------------------------------------------------------

    def _apply(self, entry: TarEntry) -> None:
        self.entry = entry
        name = entry.name
        kind = entry.kind
        # The raw spelling of the parent is the cache key, so that a run of files in one directory costs no parsing.
        spelled, _, base = name.rpartition("/")
        here = self.by_name.get(spelled)
        if here is None or not base or base in {".", ".."} or base.startswith(".wh.") or "\0" in base:
            written = base
            parts = clean(name, self.limits)
            if not parts:
                self._root_entry(entry)
                return
            base = parts.pop()
            if ".wh." in name and any(part.startswith(whiteout.PREFIX) for part in parts):
                self._below_reserved(entry, parts, base)
                return
            mark = whiteout.parse(base, name)
            if mark is not None:
                self._mark(entry, parts, *mark)
                return
            parent = "/".join(parts)
            here = self.by_name.get(parent)
            if here is None:
                here = self._parent(parent, parts)
            if written == base:
                self.by_name[spelled] = here
        if kind is Kind.FILE:
            self._file(entry, here, base)
        elif kind is Kind.DIR:
            self._dir(entry, here, base)
        elif kind is Kind.SYMLINK:
            self._symlink(entry, here, base)
        elif kind is Kind.HARDLINK:
            self._hardlink(entry, here, base)
        else:
            self._special(entry, here, base)

    def _root_entry(self, entry: TarEntry) -> None:
        if entry.kind is not Kind.DIR:
            raise UnsafeEntry(entry.name, "the root must stay a directory")
        self.attributes[""] = entry
        self.reused.add("")

    def _trim(self) -> None:
        if self.dirs.trim():
            self.by_name.clear()

    def _parent(self, key: str, parts: list[str]) -> Dir:
        """Open the directory for an entry, making what is missing, and remember it under `key`."""
        self._trim()
        here = self.dirs.walk(parts, missing=self._missing, blocked=self._blocked)
        path = here.path
        own = self.own
        while path not in own:
            own.add(path)
            path = path.rpartition("/")[0]
        self.by_name[key] = here
        return here

    def _missing(self, here: Dir, name: str) -> str | None:
        """A parent directory that this layer has no entry for (yet)."""
        path = here.join(name)
        if self.lower is not None and not self._covered(path):
            below = self.lower(path)
            if below is not None and below.kind is Kind.SYMLINK:
                return below.linkname
        os.mkdir(name, 0o700, dir_fd=here.fd)
        self.implicit.add(path)
        return None

    def _missing_below(self, here: Dir, name: str) -> str | None:
        """A parent of a whiteout: made only if the layers below may hold something in it."""
        path = here.join(name)
        nothing = self._covered(path)
        if not nothing and self.lower is not None:
            below = self.lower(path)
            nothing = below is None or below.kind not in {Kind.DIR, Kind.SYMLINK}
        if nothing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._missing(here, name)

    def _blocked(self, here: Dir, name: str) -> None:
        """A parent component that is a file: fatal if this layer made it, else it belongs to a lower layer."""
        path = here.join(name)
        if path in self.hidden:
            self._remove(here, name)
            self._replace(path)
            return
        if path in self.own:
            entry = self.entry
            raise BadArchive(f"its parent {path!r} is not a directory", entry.name if entry else path)
        self._remove(here, name)

    def _covered(self, path: str) -> bool:
        """Whether this layer hides whatever the layers below hold at a path."""
        opaque = self.opaque
        if not opaque:
            return False
        if path in self.replaced:
            return True
        while path:
            path = path.rpartition("/")[0]
            if path in opaque:
                return True
        return False

    def _replace(self, path: str) -> None:
        self.replaced.add(path)
        self.opaque.add(path)

    def _count(self, entry: TarEntry) -> None:
        self.files += 1
        self.bytes += entry.size
        if self.bytes > self.limits.max_bytes:
            limit = self.limits.max_bytes
            raise LayerLimit("max_bytes", limit, f"layer unpacks to more than {limit} bytes", entry.name)

    def _file(self, entry: TarEntry, here: Dir, base: str) -> None:
        self._count(entry)
        mode = entry.mode if self.owners is None else held_mode(entry.mode, directory=False)
        asked = 0o600 if mode & ~self.given_modes else mode
        try:
            fd = os.open(base, _NEW, asked, dir_fd=here.fd)
        except FileExistsError:
            self._remove(here, base)
            fd = os.open(base, _NEW, asked, dir_fd=here.fd)
        try:
            if entry.sparse is None:
                for view in self.reader.chunks():
                    done = os.write(fd, view)
                    while done < len(view):
                        done += os.write(fd, view[done:])
            else:
                self._write_sparse(fd, entry)
            # chown clears setuid bits and file capabilities, so it goes first.
            if self.keep_owner and (entry.uid, entry.gid) != self.given_owner:
                os.fchown(fd, entry.uid, entry.gid)
            if asked != mode:
                os.fchmod(fd, mode)
            if entry.xattrs:
                self.xattrs_skipped += set_xattrs(fd, entry.xattrs)
            mtime = entry.mtime
            if not -_MAX_TIME < mtime < _MAX_TIME:
                mtime = max(-_MAX_TIME, min(mtime, _MAX_TIME))
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)
        self.own.add(path := f"{here.path}/{base}" if here.path else base)
        if self.owners is not None:
            self.owners.set(path, entry.uid, entry.gid, entry.mode)

    def _write_sparse(self, fd: int, entry: TarEntry) -> None:
        assert entry.sparse is not None
        read = self.reader.read
        for offset, length in entry.sparse:
            end = offset + length
            while offset < end:
                data = read(end - offset)
                view = memoryview(data)
                while view:
                    done = os.pwrite(fd, view, offset)
                    offset += done
                    view = view[done:]
        os.ftruncate(fd, entry.size)

    def _dir(self, entry: TarEntry, here: Dir, base: str) -> None:
        path = here.join(base)
        try:
            os.mkdir(base, 0o700, dir_fd=here.fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=here.fd, follow_symlinks=False).st_mode):
                # A file made and then replaced by this layer hides whatever directory a lower layer has here.
                hides = self.overlay and (path in self.own or path in self.hidden)
                self._remove(here, base)
                os.mkdir(base, 0o700, dir_fd=here.fd)
                if hides:
                    self._replace(path)
            else:
                self.reused.add(path)
        self.own.add(path)
        self.attributes[path] = entry
        self.implicit.discard(path)

    def _symlink(self, entry: TarEntry, here: Dir, base: str) -> None:
        target = entry.linkname
        if not target or "\0" in target:
            raise BadArchive("symbolic link without a usable target", entry.name, entry.offset)
        try:
            os.symlink(target, base, dir_fd=here.fd)
        except FileExistsError:
            self._remove(here, base)
            os.symlink(target, base, dir_fd=here.fd)
        self.bytes += len(os.fsencode(target))  # as Docker counts: a link's size is the length of its target
        self._set_by_name(entry, here, base)

    def _hardlink(self, entry: TarEntry, here: Dir, base: str) -> None:
        parts = clean(entry.linkname, self.limits, entry=entry.name)
        if not parts:
            raise UnsafeEntry(entry.name, f"hard link to {entry.linkname!r}")
        wanted = "/".join(parts)
        leaf = parts.pop()
        if self.dirs.trim():
            self.by_name.clear()
            here = self.dirs.enter(here.path)
        try:
            source = self.dirs.walk(parts)
            status = os.stat(leaf, dir_fd=source.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            self._no_target(entry, wanted)
        else:
            from_path = source.join(leaf)
            to_path = here.join(base)
            if from_path in self.hidden:
                raise BadArchive(f"hard link to {wanted!r}, which this layer deletes", entry.name, entry.offset)
            if self.overlay and whiteout.is_overlay_whiteout(status):
                raise UnsafeEntry(entry.name, f"hard link to {wanted!r}, which is not a file")
            if stat.S_ISDIR(status.st_mode):
                raise BadArchive(f"hard link to the directory {wanted!r}", entry.name, entry.offset)
            if from_path == to_path:
                raise BadArchive("hard link to itself", entry.name, entry.offset)
            try:
                os.link(leaf, base, src_dir_fd=source.fd, dst_dir_fd=here.fd, follow_symlinks=False)
            except FileExistsError:
                self._remove(here, base)
                os.link(leaf, base, src_dir_fd=source.fd, dst_dir_fd=here.fd, follow_symlinks=False)
            self.own.add(to_path)
            if self.owners is not None:
                self.owners.link(from_path, to_path)

    def _no_target(self, entry: TarEntry, wanted: str) -> None:
        if self.overlay and not self._covered(wanted):
            raise NeedsParents(entry.name, wanted)
        raise BadArchive(f"hard link to {wanted!r}, which does not exist", entry.name, entry.offset)

    def _special(self, entry: TarEntry, here: Dir, base: str) -> None:
        """Devices and FIFOs are made and described by name; nothing ever opens them (threat 8)."""
        kind = entry.kind
        if kind is Kind.FIFO:
            node = stat.S_IFIFO
            device = 0
        else:
            if (kind is Kind.CHAR and not entry.major and not entry.minor) or not self.make_devices:
                self.devices_skipped += 1
                return
            if not 0 <= entry.major < 1 << 12 or not 0 <= entry.minor < 1 << 20:
                raise BadArchive("device number out of range", entry.name, entry.offset)
            node = stat.S_IFCHR if kind is Kind.CHAR else stat.S_IFBLK
            device = os.makedev(entry.major, entry.minor)
        try:
            os.mknod(base, node | (entry.mode & 0o777), device, dir_fd=here.fd)
        except FileExistsError:
            self._remove(here, base)
            os.mknod(base, node | (entry.mode & 0o777), device, dir_fd=here.fd)
        self._set_by_name(entry, here, base)

    def _set_by_name(self, entry: TarEntry, here: Dir, base: str) -> None:
        """Owner, mode, attributes and time of something that cannot be opened."""
        if self.keep_owner and (entry.uid, entry.gid) != self.given_owner:
            os.chown(base, entry.uid, entry.gid, dir_fd=here.fd, follow_symlinks=False)
        if entry.kind is not Kind.SYMLINK and entry.mode & (0o7000 | self.umask):
            chmod_node(here.fd, base, entry.mode)
        if entry.xattrs:
            self.xattrs_skipped += set_xattrs(f"/proc/self/fd/{here.fd}/{base}", entry.xattrs)
        mtime = max(-_MAX_TIME, min(entry.mtime, _MAX_TIME))
        os.utime(base, ns=(mtime, mtime), dir_fd=here.fd, follow_symlinks=False)
        self.own.add(here.join(base))
        if self.owners is not None:
            self.owners.set(here.join(base), entry.uid, entry.gid)

    # --- whiteouts -----------------------------------------------------------------------------------------------

    def _below_reserved(self, entry: TarEntry, parts: list[str], base: str) -> None:
        """An entry inside a directory with a reserved name: AUFS housekeeping, or nonsense."""
        if parts == [whiteout.AUFS_LINKS] and not base.startswith(whiteout.PREFIX):
            if entry.kind is Kind.FILE:
                self._aufs_link_target(entry, base)
            return
        if any(part.startswith(whiteout.META_PREFIX) and part != whiteout.OPAQUE_NAME for part in parts):
            return
        raise UnsafeEntry(entry.name, "a parent directory has a name that is reserved for whiteouts")

    def _aufs_link_target(self, entry: TarEntry, base: str) -> None:
        """Old AUFS layers keep hard linked files in `.wh..wh.plnk/`: unpacked for the links, removed at the end."""
        if not self.aufs_links:
            self._remove_if_any(self.dirs.root, whiteout.AUFS_LINKS)
            os.mkdir(whiteout.AUFS_LINKS, 0o700, dir_fd=self.root_fd)
            self.aufs_links = True
        self._file(entry, self.dirs.enter(whiteout.AUFS_LINKS), base)

    def _mark(self, entry: TarEntry, parts: list[str], mark: whiteout.Mark, hidden: str) -> None:
        if mark is whiteout.Mark.METADATA:
            return
        if entry.kind not in {Kind.FILE, Kind.HARDLINK, Kind.CHAR}:
            raise UnsafeEntry(entry.name, f"it is a whiteout but a {entry.kind.value}")
        if self.overlay:
            self._mark_overlay(parts, mark, hidden)
        else:
            self._mark_remove(parts, mark, hidden)

    def _mark_overlay(self, parts: list[str], mark: whiteout.Mark, hidden: str) -> None:
        self._trim()
        try:
            here = self.dirs.walk(parts, missing=self._missing_below)
        except (FileNotFoundError, NotADirectoryError):
            return  # nothing there, nothing to hide
        if mark is whiteout.Mark.OPAQUE:
            self.opaques += 1
            self.opaque.add(here.path)
            return
        self.whiteouts += 1
        path = here.join(hidden)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=here.fd)
            self.hidden.add(path)
        except FileExistsError:
            if path in self.own:
                # A file hides the lower one anyway, a directory must not merge with it.
                if stat.S_ISDIR(os.stat(hidden, dir_fd=here.fd, follow_symlinks=False).st_mode):
                    self._replace(path)
            elif path not in self.hidden:  # a directory that only holds other marks
                self._remove(here, hidden)
                os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=here.fd)
                self.hidden.add(path)

    def _mark_remove(self, parts: list[str], mark: whiteout.Mark, hidden: str) -> None:
        self._trim()
        try:
            here = self.dirs.walk(parts)
        except (FileNotFoundError, NotADirectoryError):
            return  # nothing there, nothing to hide
        if mark is whiteout.Mark.OPAQUE:
            self.opaques += 1
            self._purge_lower(here)
            return
        self.whiteouts += 1
        path = here.join(hidden)
        if path not in self.own:
            self._remove_if_any(here, hidden)
        elif stat.S_ISDIR(os.stat(hidden, dir_fd=here.fd, follow_symlinks=False).st_mode):
            self._reset(path)
            self._purge_lower(self.dirs.enter(path))

    def _purge_lower(self, directory: Dir) -> None:
        """Remove everything below a directory that this layer did not make."""
        pending = [directory.path]
        while pending:
            path = pending.pop()
            self._trim()
            here = self.dirs.enter(path)
            for name in names_in(here.fd):
                child = here.join(name)
                if child not in self.own:
                    self._remove(here, name)
                elif stat.S_ISDIR(os.stat(name, dir_fd=here.fd, follow_symlinks=False).st_mode):
                    self._reset(child)
                    pending.append(child)

    def _reset(self, path: str) -> None:
        """A directory that stays for what this layer put into it, though the lower one of that name is hidden."""
        if path not in self.attributes:
            self.implicit.add(path)
            self.stale.add(path)

    # --- removal -------------------------------------------------------------------------------------------------

    def _remove_if_any(self, here: Dir, name: str) -> None:
        try:
            self._remove(here, name)
        except FileNotFoundError:
            pass

    def _remove(self, here: Dir, name: str) -> None:
        """Remove a name with everything below it, and forget what was known about it."""
        mode = os.stat(name, dir_fd=here.fd, follow_symlinks=False).st_mode
        path = here.join(name)
        if stat.S_ISDIR(mode):
            empty(here.fd, name, path, self._disown)
            os.rmdir(name, dir_fd=here.fd)
        else:
            os.unlink(name, dir_fd=here.fd)
        if not stat.S_ISREG(mode):
            self.by_name.clear()
        self._disown(path)

    def _disown(self, path: str) -> None:
        self.own.discard(path)
        self.attributes.pop(path, None)
        self.implicit.discard(path)
        self.hidden.discard(path)
        self.opaque.discard(path)
        self.replaced.discard(path)
        self.reused.discard(path)
        self.stale.discard(path)
        self.dirs.forget(path)

    # --- the end -------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self.aufs_links:
            self._remove_if_any(self.dirs.root, whiteout.AUFS_LINKS)
        for path in self.hidden:
            # Overlayfs shows a whiteout that lies over nothing as a broken name.
            if self._covered(path) or (self.lower is not None and self.lower(path) is None):
                self._unlink_path(path)
        for path in sorted(self.implicit - self.own, reverse=True):  # made for marks that hide nothing after all
            if self._covered(path):
                self.dirs.trim()
                parent, _, name = path.rpartition("/")
                self._remove(self.dirs.enter(parent), name)
        for path in sorted({*self.attributes, *self.implicit, *self.opaque}, reverse=True):  # children first
            self.dirs.trim()
            self._finish_dir(path)
        settled = self.lower is not None or not self.overlay
        self.implicit = set() if settled else {path for path in self.implicit if not self._covered(path)}

    def _unlink_path(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        self.dirs.trim()
        os.unlink(name, dir_fd=self.dirs.enter(parent).fd)

    def _finish_dir(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        fd = os.open(name or ".", READ, dir_fd=self.dirs.enter(parent).fd)
        try:
            entry: TarEntry | LowerEntry | None = self.attributes.get(path)
            if entry is None and path in self.implicit:
                entry = self.lower(path) if self.lower is not None and not self._covered(path) else None
                if entry is None or entry.kind is not Kind.DIR:
                    if path in self.stale:
                        os.fchown(fd, os.geteuid(), os.getegid())
                        drop_xattrs(fd, {})
                    os.fchmod(fd, 0o755)
                    entry = None
            if self.owners is not None:
                known = (0, 0) if entry is None else (entry.uid, entry.gid, entry.mode)
                self.owners.set(path, *known, directory=True)
            if entry is not None:
                if self.keep_owner:
                    os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode if self.owners is None else held_mode(entry.mode, directory=True))
                if path in self.reused:
                    drop_xattrs(fd, entry.xattrs)
                if entry.xattrs:
                    self.xattrs_skipped += set_xattrs(fd, entry.xattrs)
            if path in self.opaque:
                os.setxattr(fd, whiteout.opaque_xattr(userxattr=self.userxattr), b"y")
            if entry is not None:
                mtime = max(-_MAX_TIME, min(entry.mtime, _MAX_TIME))
                os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)
