"""Modes of new files: what they get by themselves, and how to give one its own without following a link."""

from __future__ import annotations

import errno
import os
import stat


def current_umask() -> int:
    """The process umask, without changing it (os.umask would, for all threads)."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def is_plain(root_fd: int) -> bool:
    """Whether what is made below an empty directory gets the modes asked for and the owner of this process."""
    status = os.fstat(root_fd)
    if status.st_mode & stat.S_ISGID or status.st_gid != os.getegid() or os.listdir(root_fd):
        return False
    try:
        return "system.posix_acl_default" not in os.listxattr(root_fd)
    except OSError as error:
        return error.errno == errno.EOPNOTSUPP


def chmod_node(directory_fd: int, name: str, mode: int) -> None:
    """Change the mode without following a link: pin the inode with O_PATH, then go through its /proc link."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
