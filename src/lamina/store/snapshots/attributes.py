"""Owner, mode, attributes and times of one directory given to another."""

from __future__ import annotations

import errno
import os
from typing import Final

# Overlay's own marks say something about one place in one stack; they never travel.
_PRIVATE: Final = ("trusted.overlay.", "user.overlay.")
_REFUSALS: Final = frozenset({errno.EOPNOTSUPP, errno.EPERM, errno.EACCES})


def copy_attributes(source: str, target: str) -> None:
    """Makes the directory `target` look like the directory `source`; neither may be a link.

    Ownership is kept as far as the process may set it.
    """
    info = os.lstat(source)
    set_owner(target, info.st_uid, info.st_gid)
    os.chmod(target, info.st_mode & 0o7777)
    copy_xattrs(source, target)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def set_owner(path: str, uid: int, gid: int) -> None:
    """Changes the owner without following a link; a process without the privilege leaves it."""
    try:
        os.lchown(path, uid, gid)
    except PermissionError:
        if os.geteuid() == 0:
            raise


def copy_xattrs(source: str, target: str) -> None:
    """Copies extended attributes, links not followed, except overlay's own and those that may not be set."""
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError as error:
        if error.errno in _REFUSALS:
            return
        raise
    for name in names:
        if name.startswith(_PRIVATE):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
