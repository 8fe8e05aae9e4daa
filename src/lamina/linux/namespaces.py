"""Network namespaces that outlive the process that made them, kept alive by a bind mount (namespaces(7))."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from lamina.linux import syscalls

_T = TypeVar("_T")


def create(path: str, setup: Callable[[], _T]) -> _T:
    """Makes a network namespace and pins it at `path`.

    Args:
        path: where it will appear; missing directories are made. A stale namespace there is replaced.
        setup: runs inside the new namespace, on a thread of its own, e.g. to open sockets that belong to it.

    Returns:
        What `setup` returned.

    Raises:
        SyscallFailed: the kernel said no; nothing is left behind.
    """
    delete(path)
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o444))

    def make() -> _T:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.mount("/proc/thread-self/ns/net", path, None, syscalls.MS_BIND, None)
        return setup()

    try:
        return _on_own_thread(make)
    except BaseException:
        delete(path)
        raise


def enter(path: str, work: Callable[[], _T]) -> _T:
    """Runs `work` inside the namespace at `path`, on a thread of its own, and returns its result.

    Raises:
        OSError: no namespace there.
    """

    def inside() -> _T:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        finally:
            os.close(fd)
        return work()

    return _on_own_thread(inside)


def delete(path: str) -> None:
    """Lets a namespace go; it ends with its last process. No namespace there is success."""
    try:
        syscalls.umount2(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    except syscalls.SyscallFailed as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:  # EINVAL: a plain file, left by a reboot or a crash
            raise
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _on_own_thread(work: Callable[[], _T]) -> _T:
    """A namespace belongs to a thread; one that changed it must end, never go back to a pool."""
    result: list[_T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
