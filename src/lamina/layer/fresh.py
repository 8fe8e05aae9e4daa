"""What a new file gets by itself: the process's umask, and whether a directory changes mode or owner of what is new."""

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
