"""Which extended attributes belong to an image, and which to the host or the storage driver."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from lamina.layer.whiteout import OVERLAY_PREFIXES

# fuse-overlayfs and rootless stores keep ownership in these; in an archive they would forge it.
STORE_XATTRS = (*OVERLAY_PREFIXES, "user.fuseoverlayfs.", "user.containers.override_")
HOST_XATTRS = frozenset(("security.selinux", "security.evm"))
"""Labels and signatures that the host's own policy puts on files."""

_REFUSALS = frozenset((errno.EOPNOTSUPP, errno.EPERM, errno.EACCES))
_ABSENT = frozenset((errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENODATA))


def steers_store(name: str) -> bool:
    """Attributes by which overlay stores steer themselves: never taken from an archive, never put into one."""
    return name.startswith(STORE_XATTRS)


def read_xattrs(target: int | str) -> dict[str, bytes]:
    """Read the attributes that travel in a layer, sorted by name.

    Args:
        target: a descriptor, or a path whose last component is not followed.

    Returns:
        Names and values; empty when the file system has none.
    """
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target) if follow else os.listxattr(target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _ABSENT:
            return {}
        raise
    found: dict[str, bytes] = {}
    for name in sorted(names):
        if name in HOST_XATTRS or name.startswith(STORE_XATTRS):
            continue
        try:
            found[name] = os.getxattr(target, name) if follow else os.getxattr(target, name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
    return found


def set_xattrs(target: int | str, xattrs: Mapping[str, bytes]) -> int:
    """Give a file the attributes of its archive entry, except those that would steer the store.

    Args:
        target: a descriptor, or a path whose last component is not followed.
        xattrs: names and values.

    Returns:
        How many were left out: the store's own, and what the file system or the system does not allow.

    Raises:
        OSError: any other refusal.
    """
    skipped = 0
    for key, value in xattrs.items():
        if steers_store(key):
            skipped += 1
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, key, value)
            else:
                os.setxattr(target, key, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _REFUSALS and not (error.errno == errno.EINVAL and key[:5] != "user."):
                raise
            skipped += 1
    return skipped


def drop_xattrs(fd: int, keep: Mapping[str, bytes]) -> None:
    """Remove what an archive entry that replaces all attributes does not name; the host's and the store's own stay."""
    try:
        present = os.listxattr(fd)
    except OSError:
        return
    for key in present:
        if key not in keep and key not in HOST_XATTRS and not steers_store(key):
            try:
                os.removexattr(fd, key)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
