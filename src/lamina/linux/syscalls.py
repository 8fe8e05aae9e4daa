"""The system calls that Python's os module lacks, by their kernel names.

Calls newer than Linux 5.1 have one number on every architecture (asm-generic/unistd.h), so they are made by number
and need no particular libc; the older ones go through libc.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

# mount(2), umount2(2)
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_SYNCHRONOUS: Final = 0x10
MS_REMOUNT: Final = 0x20
MS_NOATIME: Final = 0x400
MS_NODIRATIME: Final = 0x800
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21
MS_STRICTATIME: Final = 1 << 24
MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8

# unshare(2), setns(2)
CLONE_FS: Final = 0x200
CLONE_NEWNS: Final = 0x20000
CLONE_NEWNET: Final = 0x40000000

# prctl(2)
PR_SET_PDEATHSIG: Final = 1
_SIGKILL: Final = 9  # the signal module costs a millisecond of start-up

# openat2(2)
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

# The new mount API
AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
FSOPEN_CLOEXEC: Final = 0x1
FSMOUNT_CLOEXEC: Final = 0x1
FSCONFIG_SET_FLAG: Final = 0
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_CMD_CREATE: Final = 6
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8

CLOSE_RANGE_CLOEXEC: Final = 0x4

_NR_MOVE_MOUNT: Final = 429
_NR_FSOPEN: Final = 430
_NR_FSCONFIG: Final = 431
_NR_FSMOUNT: Final = 432
_NR_CLOSE_RANGE: Final = 436
_NR_OPENAT2: Final = 437
_NR_MOUNT_SETATTR: Final = 442


class SyscallFailed(OSError):
    """The kernel refused a call.

    Attributes:
        call: the call's kernel name.
        errno: the error number, as with every OSError.
    """

    def __init__(self, number: int, call: str, about: str) -> None:
        super().__init__(number, f"{call} {about}: {os.strerror(number)}")
        self.call = call

    def __str__(self) -> str:
        return str(self.strerror)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_LIBC.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_LIBC.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_LIBC.syscall.restype = ctypes.c_long


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _syscall(number: int, *args: object) -> int:
    return int(_LIBC.syscall(ctypes.c_long(number), *args))


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None) -> None:
    """Makes the kernel call `mount`.

    Raises:
        SyscallFailed: the kernel said no.
    """
    if _LIBC.mount(_bytes(source), _bytes(target), _bytes(fstype), flags, _bytes(data)) != 0:
        raise SyscallFailed(ctypes.get_errno(), "mount", f"{fstype or source or 'change'} on {target}")


def umount2(target: str, flags: int) -> None:
    """Makes the kernel call `umount2`.

    Raises:
        SyscallFailed: the kernel said no (EINVAL: not a mount point).
    """
    if _LIBC.umount2(_bytes(target), flags) != 0:
        raise SyscallFailed(ctypes.get_errno(), "umount2", target)


def unshare(flags: int) -> None:
    """Makes the kernel call `unshare`: gives the calling thread (for CLONE_FS, CLONE_NEWNET) its own copy.

    Raises:
        SyscallFailed: the kernel said no.
    """
    if _LIBC.unshare(flags) != 0:
        raise SyscallFailed(ctypes.get_errno(), "unshare", hex(flags))


def setns(fd: int, nstype: int) -> None:
    """Makes the kernel call `setns`: moves the calling thread into a namespace.

    Raises:
        SyscallFailed: the kernel said no.
    """
    if _LIBC.setns(fd, nstype) != 0:
        raise SyscallFailed(ctypes.get_errno(), "setns", hex(nstype))


def die_with_parent(parent: int) -> bool:
    """Has the kernel kill this process when the thread that started it ends, however it ends (prctl(2)).

    Args:
        parent: its process id.

    Returns:
        False when the parent is gone already, so that nothing would come.

    Raises:
        SyscallFailed: the kernel said no.
    """
    if _LIBC.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(_SIGKILL)) != 0:
        raise SyscallFailed(ctypes.get_errno(), "prctl", "PR_SET_PDEATHSIG")
    return os.getppid() == parent


def syncfs(fd: int) -> None:
    """Makes the kernel call `syncfs`: returns when everything written to the file system that holds `fd` is on disk.

    Raises:
        SyscallFailed: writing back failed (EIO, ENOSPC, EDQUOT).
    """
    # CDLL calls release the GIL, so other threads work while the disk does.
    if _LIBC.syncfs(fd) != 0:
        raise SyscallFailed(ctypes.get_errno(), "syncfs", f"file descriptor {fd}")


def openat2(dirfd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Makes the kernel call `openat2`: opens `path` under rules on how it may be resolved (RESOLVE_*).

    Returns:
        An open file descriptor, close-on-exec.

    Raises:
        SyscallFailed: as open(2), and EXDEV or ELOOP when resolution would leave `dirfd`.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _attempt in range(64):
        fd = _syscall(
            _NR_OPENAT2,
            ctypes.c_int(dirfd),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return fd
        # EAGAIN: a rename raced with the resolution; openat2(2) asks to try again.
        if ctypes.get_errno() != 11:
            break
    raise SyscallFailed(ctypes.get_errno(), "openat2", path)


def close_range(first: int, last: int, flags: int = 0) -> None:
    """Makes the kernel call `close_range`; with CLOSE_RANGE_CLOEXEC the range closes at the next exec instead.

    Raises:
        SyscallFailed: the kernel said no.
    """
    if _syscall(_NR_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(flags)) != 0:
        raise SyscallFailed(ctypes.get_errno(), "close_range", f"{first}-{last}")


def fsopen(fstype: str) -> int:
    """Makes the kernel call `fsopen`: a context in which a file system is configured.

    Raises:
        SyscallFailed: ENODEV for an unknown file system, ENOSYS before Linux 5.2.
    """
    fd = _syscall(_NR_FSOPEN, ctypes.c_char_p(os.fsencode(fstype)), ctypes.c_uint(FSOPEN_CLOEXEC))
    if fd < 0:
        raise SyscallFailed(ctypes.get_errno(), "fsopen", fstype)
    return fd


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """Makes the kernel call `fsconfig`: sets one option of a context, or creates the file system (FSCONFIG_CMD_CREATE).

    Raises:
        SyscallFailed: the kernel said no; its own words, where it left some, are in the message.
    """
    done = _syscall(
        _NR_FSCONFIG,
        ctypes.c_int(fd),
        ctypes.c_uint(command),
        ctypes.c_char_p(_bytes(key)),
        ctypes.c_char_p(_bytes(value)),
        ctypes.c_int(0),
    )
    if done != 0:
        number = ctypes.get_errno()
        raise SyscallFailed(number, "fsconfig", f"{key or 'create'}{_context_log(fd)}")


def _context_log(fd: int) -> str:
    """What the kernel wrote about the last failure (fsopen(2): messages are read from the context)."""
    try:
        said = os.read(fd, 1024).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f" ({said})" if said else ""


def fsmount(fd: int, attributes: int = 0) -> int:
    """Makes the kernel call `fsmount`: a detached mount of the configured file system.

    Raises:
        SyscallFailed: the kernel said no.
    """
    mount_fd = _syscall(_NR_FSMOUNT, ctypes.c_int(fd), ctypes.c_uint(FSMOUNT_CLOEXEC), ctypes.c_uint(attributes))
    if mount_fd < 0:
        raise SyscallFailed(ctypes.get_errno(), "fsmount", f"attributes {attributes:#x}")
    return mount_fd


def move_mount(mount_fd: int, target: str) -> None:
    """Makes the kernel call `move_mount`: attaches a detached mount at `target`.

    Raises:
        SyscallFailed: the kernel said no.
    """
    done = _syscall(
        _NR_MOVE_MOUNT,
        ctypes.c_int(mount_fd),
        ctypes.c_char_p(b""),
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
    )
    if done != 0:
        raise SyscallFailed(ctypes.get_errno(), "move_mount", target)


def mount_setattr(target: str, *, recursive: bool, attributes: int) -> None:
    """Makes the kernel call `mount_setattr`: adds MOUNT_ATTR_* to a mount, or to all mounts below it too (Linux 5.12).

    Raises:
        SyscallFailed: the kernel said no.
    """
    attr = _MountAttr(attributes, 0, 0, 0)
    done = _syscall(
        _NR_MOUNT_SETATTR,
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(AT_RECURSIVE if recursive else 0),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )
    if done != 0:
        raise SyscallFailed(ctypes.get_errno(), "mount_setattr", target)
