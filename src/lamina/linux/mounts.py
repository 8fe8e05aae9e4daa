"""Mounts as values: say what would be mounted, then do it.

A value holds only absolute paths and checked options, so a list of them can be logged, compared in a test, handed
to another process, or executed here.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection, Iterable
from typing import Final, Protocol, runtime_checkable

from lamina.errors import Invalid
from lamina.linux import syscalls
from lamina.values import dataclass

# mount(2) hands the kernel one page of options; the last byte is the terminating zero.
_PAGE: Final = 4096
_OVERLAY_OPTIONS: Final = frozenset(
    {
        "index=off",
        "index=on",
        "metacopy=off",
        "metacopy=on",
        "nfs_export=off",
        "redirect_dir=off",
        "redirect_dir=on",
        "redirect_dir=follow",
        "redirect_dir=nofollow",
        "userxattr",
        "volatile",
        "xino=off",
        "xino=auto",
        "xino=on",
    }
)
_PROPAGATION: Final = {
    "private": syscalls.MS_PRIVATE,
    "slave": syscalls.MS_SLAVE,
    "shared": syscalls.MS_SHARED,
    "rprivate": syscalls.MS_PRIVATE | syscalls.MS_REC,
    "rslave": syscalls.MS_SLAVE | syscalls.MS_REC,
    "rshared": syscalls.MS_SHARED | syscalls.MS_REC,
}


#: Options of mount(8) that are flags of mount(2), and those that take one back or mean nothing to the kernel.
_FLAGS: Final = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "sync": syscalls.MS_SYNCHRONOUS,
    "noatime": syscalls.MS_NOATIME,
    "nodiratime": syscalls.MS_NODIRATIME,
    "relatime": syscalls.MS_RELATIME,
    "strictatime": syscalls.MS_STRICTATIME,
    "bind": syscalls.MS_BIND,
    "rbind": syscalls.MS_BIND | syscalls.MS_REC,
}
_NO_FLAGS: Final = frozenset(
    {"defaults", "rw", "suid", "dev", "exec", "async", "atime", "diratime", "_netdev", "nofail"}
)


class BadMount(Invalid):
    """A mount value that must not reach the kernel (threat 22: option injection).

    Attributes:
        value: the refused text.
    """

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


@runtime_checkable
class Mount(Protocol):
    """One change to the mount table."""

    def describe(self) -> str:
        """The change as a mount(8) or umount(8) command line, for logs."""

    def execute(self) -> None:
        """Makes the change.

        Raises:
            lamina.linux.syscalls.SyscallFailed: the kernel said no.
        """


def _checked(path: str) -> str:
    if not path.startswith("/"):
        raise BadMount(f"mount path {path!r} is not absolute", path)
    if "\0" in path or "\n" in path:
        raise BadMount(f"mount path {path!r} has a control character", path)
    return path


def _escaped(path: str, *, colons: bool) -> str:
    """`path` with the characters escaped that split overlay's option string."""
    path = path.replace("\\", "\\\\").replace(",", "\\,")
    return path.replace(":", "\\:") if colons else path


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay file system (Documentation/filesystems/overlayfs.rst).

    Attributes:
        lower: read-only directories, topmost first; at least one, any number that the kernel allows (500).
        target: where it appears.
        upper: the writable directory, or None for a read-only overlay of two or more lowers.
        work: an empty directory on the file system of `upper`; set exactly when `upper` is.
        options: further options, each from a fixed list (`index=off`, `volatile`, ...).
        readonly: mount read-only even with an upper.
    """

    lower: tuple[str, ...]
    target: str
    upper: str | None = None
    work: str | None = None
    options: tuple[str, ...] = ()
    readonly: bool = False

    def __post_init__(self) -> None:
        if not self.lower:
            raise BadMount("an overlay needs a lower directory", "")
        if (self.upper is None) != (self.work is None):
            raise BadMount("an overlay has both an upper and a work directory, or neither", self.upper or "")
        for path in (*self.lower, self.target, self.upper, self.work):
            if path is not None:
                _checked(path)
        for option in self.options:
            if option not in _OVERLAY_OPTIONS:
                raise BadMount(f"overlay option {option!r} is not allowed", option)

    def _data(self, base: str | None = None) -> str:
        def shown(path: str, *, colons: bool = False) -> str:
            return _escaped(os.path.relpath(path, base) if base else path, colons=colons)

        parts = ["lowerdir=" + ":".join(shown(path, colons=True) for path in self.lower)]
        if self.upper is not None and self.work is not None:
            parts += [f"upperdir={shown(self.upper)}", f"workdir={shown(self.work)}"]
        return ",".join([*parts, *self.options])

    def describe(self) -> str:
        """The mount(8) command line."""
        mode = "ro," if self.readonly else ""
        return f"mount -t overlay -o {mode}{self._data()} overlay {self.target}"

    def execute(self) -> None:
        """Mounts it.

        A long list of layers does not fit the one page of options of mount(2). Such a list goes through fsconfig(2),
        one layer at a time (Linux 6.5); on older kernels through paths relative to the layers' common directory.

        Raises:
            lamina.linux.syscalls.SyscallFailed: the kernel said no.
        """
        data = self._data()
        if len(os.fsencode(data)) < _PAGE:
            syscalls.mount("overlay", self.target, "overlay", self._flags(), data)
            return
        try:
            self._execute_by_context()
        except syscalls.SyscallFailed as error:
            if error.errno not in {errno.ENOSYS, errno.EINVAL} or error.call not in {"fsopen", "fsconfig"}:
                raise
            self._execute_relative()

    def _flags(self) -> int:
        return syscalls.MS_RDONLY if self.readonly else 0

    def _execute_by_context(self) -> None:
        context = syscalls.fsopen("overlay")
        try:
            for path in self.lower:
                syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "lowerdir+", path)
            if self.upper is not None and self.work is not None:
                syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "upperdir", self.upper)
                syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "workdir", self.work)
            for option in self.options:
                key, equals, value = option.partition("=")
                if equals:
                    syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, key, value)
                else:
                    syscalls.fsconfig(context, syscalls.FSCONFIG_SET_FLAG, key)
            syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
            mount_fd = syscalls.fsmount(context, syscalls.MOUNT_ATTR_RDONLY if self.readonly else 0)
        finally:
            os.close(context)
        try:
            syscalls.move_mount(mount_fd, self.target)
        finally:
            os.close(mount_fd)

    def _execute_relative(self) -> None:
        base = os.path.commonpath(self.lower)
        failure: list[BaseException] = []

        def work() -> None:
            # The working directory belongs to the whole process; this thread, which ends here, takes its own.
            try:
                syscalls.unshare(syscalls.CLONE_FS)
                os.chdir(base)
                syscalls.mount("overlay", self.target, "overlay", self._flags(), self._data(base))
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, name="overlay-mount")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]


@dataclass(frozen=True, slots=True)
class Bind:
    """Shows an existing file or directory at a second place.

    Attributes:
        source: what is shown.
        target: where; must exist and be of the same kind.
        recursive: take the mounts below `source` along.
        readonly: writes through `target` are refused, in the mounts below it too where the kernel can (Linux 5.12).
        propagation: private, rprivate, slave, rslave, shared or rshared.
    """

    source: str
    target: str
    recursive: bool = True
    readonly: bool = False
    propagation: str = "rprivate"

    def __post_init__(self) -> None:
        _checked(self.source)
        _checked(self.target)
        if self.propagation not in _PROPAGATION:
            raise BadMount(
                f"bind propagation {self.propagation!r} is not one of {sorted(_PROPAGATION)}", self.propagation
            )

    def describe(self) -> str:
        """The mount(8) command line."""
        mode = ",ro" if self.readonly else ""
        return f"mount --{'r' * self.recursive}bind -o {self.propagation}{mode} {self.source} {self.target}"

    def execute(self) -> None:
        """Binds it; a failure to make it read-only or to set its propagation unbinds it again.

        Raises:
            lamina.linux.syscalls.SyscallFailed: the kernel said no.
        """
        flags = syscalls.MS_BIND | (syscalls.MS_REC if self.recursive else 0)
        syscalls.mount(self.source, self.target, None, flags, None)
        try:
            syscalls.mount(None, self.target, None, _PROPAGATION[self.propagation], None)
            if self.readonly:
                RemountReadOnly(self.target, recursive=self.recursive).execute()
        except BaseException:
            syscalls.umount2(self.target, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
            raise


@dataclass(frozen=True, slots=True)
class RemountReadOnly:
    """Makes an existing mount refuse writes.

    Attributes:
        target: the mount point.
        recursive: the mounts below it too.
    """

    target: str
    recursive: bool = False

    def __post_init__(self) -> None:
        _checked(self.target)

    def describe(self) -> str:
        """The mount(8) command line."""
        return f"mount -o remount,bind,{'ro=recursive' if self.recursive else 'ro'} {self.target}"

    def execute(self) -> None:
        """Remounts it.

        Raises:
            lamina.linux.syscalls.SyscallFailed: the kernel said no.
        """
        try:
            syscalls.mount_setattr(self.target, recursive=self.recursive, attributes=syscalls.MOUNT_ATTR_RDONLY)
        except syscalls.SyscallFailed as error:
            if error.errno != errno.ENOSYS:
                raise
            flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
            syscalls.mount(None, self.target, None, flags, None)


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A file system in memory.

    Attributes:
        target: where it appears.
        size: bytes at most, or None for the kernel's default (half of memory).
        mode: permission bits of its root directory.
    """

    target: str
    size: int | None = None
    mode: int = 0o1777

    def __post_init__(self) -> None:
        _checked(self.target)

    def _data(self) -> str:
        size = "" if self.size is None else f",size={self.size}"
        return f"mode={self.mode:o}{size}"

    def describe(self) -> str:
        """The mount(8) command line."""
        return f"mount -t tmpfs -o nosuid,nodev,{self._data()} tmpfs {self.target}"

    def execute(self) -> None:
        """Mounts it.

        Raises:
            lamina.linux.syscalls.SyscallFailed: the kernel said no.
        """
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("tmpfs", self.target, "tmpfs", flags, self._data())


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Any file system, by the words of mount(8).

    Attributes:
        source: device, `host:/path`, or a word that the type ignores.
        target: where it appears.
        type: as in /proc/filesystems; `none` with the option `bind` for a bind.
        options: as after `-o`; those that are flags of mount(2) become flags, the others go to the file system.
    """

    source: str
    target: str
    type: str
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _checked(self.target)
        for text in (self.source, self.type, *self.options):
            if "\0" in text or "\n" in text:
                raise BadMount(f"mount option {text!r} has a control character", text)

    def describe(self) -> str:
        """The mount(8) command line."""
        options = f"-o {','.join(self.options)} " if self.options else ""
        return f"mount -t {self.type} {options}{self.source} {self.target}"

    def execute(self) -> None:
        """Mounts it.

        Raises:
            lamina.linux.syscalls.SyscallFailed: the kernel said no.
        """
        flags, data = 0, []
        for option in self.options:
            if option in _FLAGS:
                flags |= _FLAGS[option]
            elif option.startswith("no") and option[2:] in _FLAGS:
                flags &= ~_FLAGS[option[2:]]
            elif option not in _NO_FLAGS:
                data.append(option)
        syscalls.mount(self.source, self.target, self.type, flags, ",".join(data) or None)
        if flags & syscalls.MS_BIND and flags & syscalls.MS_RDONLY:
            RemountReadOnly(self.target).execute()  # the call that binds ignores every other flag


@dataclass(frozen=True, slots=True)
class Unmount:
    """Takes the topmost mount at a place away.

    Attributes:
        target: the mount point; a symbolic link there is never followed.
        detach: succeed while it is busy; it vanishes from the table now and ends with its last user.
        missing_ok: nothing mounted there, or no such path, is success (a second clean-up after a crash).
    """

    target: str
    detach: bool = False
    missing_ok: bool = True

    def __post_init__(self) -> None:
        _checked(self.target)

    def describe(self) -> str:
        """The umount(8) command line."""
        return f"umount {'-l ' if self.detach else ''}{self.target}"

    def execute(self) -> None:
        """Unmounts it.

        Raises:
            lamina.linux.syscalls.SyscallFailed: EBUSY when in use and not `detach`, or another refusal.
        """
        flags = syscalls.UMOUNT_NOFOLLOW | (syscalls.MNT_DETACH if self.detach else 0)
        try:
            syscalls.umount2(self.target, flags)
        except syscalls.SyscallFailed as error:
            if not (self.missing_ok and error.errno in {errno.EINVAL, errno.ENOENT}):
                raise


def execute_all(mounts: Iterable[Mount]) -> None:
    """Executes mounts in order; when one fails, those already made are undone, last first.

    Raises:
        lamina.linux.syscalls.SyscallFailed: from the mount that failed.
    """
    done: list[str] = []
    try:
        for mount in mounts:
            mount.execute()
            if isinstance(mount, Overlay | Bind | Tmpfs | FileSystem):
                done.append(mount.target)
    except BaseException:
        for target in reversed(done):
            Unmount(target, detach=True).execute()
        raise


def mount_points(under: str = "/", types: Collection[str] = ()) -> list[str]:
    """Mount points at or below a directory, in mount order (proc_pid_mountinfo(5)); the last is to be unmounted first.

    A place mounted twice is listed twice.

    Args:
        under: the directory; "/" for all.
        types: only of file systems of these types, when any are given.
    """
    prefix = under.rstrip("/") + "/"
    found: list[str] = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = _unescaped(line.split(" ", 5)[4])
            if types and line.partition(" - ")[2].partition(" ")[0] not in types:
                continue
            if point == under or point.startswith(prefix):
                found.append(point)
    return found


def mount_of(path: str) -> tuple[str, str]:
    """The mount point that holds a path, and its optional fields (`shared:1 master:2`), by proc_pid_mountinfo(5).

    Args:
        path: absolute, without links.
    """
    best = ("/", "")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.partition(" - ")[0].split(" ", 6)
            point = _unescaped(fields[4])
            # One mounted later at the same place covers the earlier.
            if len(point) >= len(best[0]) and (path == point or path.startswith(point.rstrip("/") + "/")):
                best = (point, fields[6].strip() if len(fields) > 6 else "")
    return best


def _unescaped(field: str) -> str:
    """A mountinfo field with its octal escapes (space, tab, newline, backslash) undone."""
    if "\\" not in field:
        return field
    head, *rest = field.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
