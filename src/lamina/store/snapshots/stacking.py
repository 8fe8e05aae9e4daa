"""Put a layer that was unpacked alone on top of the layers it belongs to.

An archive may name `usr/bin/x` without entries for `usr` and `usr/bin`; alone, their owner, mode and times cannot be
known. Here they are taken from the layers below, as if the layer had been applied on the merged tree. Where a lower
layer has something other than a directory in the way, only applying on the merged tree helps.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Final

from lamina.layer import whiteout
from lamina.store.snapshots.attributes import copy_attributes

#: Given to the root of a tree before a layer is unpacked alone. If it is still there afterwards, the archive had no
#: entry for its root. No real root directory is sticky, closed to its group and open to all others.
UNSET_ROOT_MODE: Final = 0o1705


class Blocked(Exception):
    """A lower layer has a link where this one has an implicit directory."""


def settle(tree: str, lowers: Sequence[str], implicit: Iterable[str], *, userxattr: bool) -> None:
    """Gives implicit directories the attributes of those they are merged with.

    Args:
        tree: the layer's changes.
        lowers: the trees below it, topmost first, settled themselves.
        implicit: paths in `tree`, parents before children.
        userxattr: which attribute marks opaque directories.

    Raises:
        Blocked: apply the layer on the merged tree instead.
    """
    if stat.S_IMODE(os.lstat(tree).st_mode) == UNSET_ROOT_MODE:
        if lowers:
            copy_attributes(lowers[0], tree)
        else:
            os.chmod(tree, 0o755)
    for path in sorted(implicit):
        if path:
            below = _find(lowers, path.split("/"), userxattr=userxattr)
            if below is not None:
                copy_attributes(below, f"{tree}/{path}")


def _find(lowers: Sequence[str], parts: list[str], *, userxattr: bool) -> str | None:
    """The topmost lower directory that shows at a path; None when nothing shows there.

    Raises:
        Blocked: a link does, here or on the way.
    """
    for lower in lowers:
        path, hidden = lower, False
        for part in parts:
            path = f"{path}/{part}"
            try:
                info = os.lstat(path)
            except FileNotFoundError:
                break
            if stat.S_ISLNK(info.st_mode):
                raise Blocked(path)
            if not stat.S_ISDIR(info.st_mode):
                # A whiteout, or a file in the way: whatever lies deeper does not show.
                return None
            hidden = hidden or _opaque(path, userxattr=userxattr)
        else:
            return path
        if hidden:
            return None
    return None


def _opaque(path: str, *, userxattr: bool) -> bool:
    try:
        return os.getxattr(path, whiteout.opaque_xattr(userxattr=userxattr), follow_symlinks=False) == b"y"
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.EOPNOTSUPP}:
            return False
        raise
