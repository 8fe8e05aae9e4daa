"""Deletions: the OCI forms inside archives (image-spec, layer.md "Whiteouts") and overlayfs forms on disk."""

from __future__ import annotations

import enum
import os
import stat

from lamina.layer.paths import UnsafeEntry

PREFIX = ".wh."
META_PREFIX = ".wh..wh."
OPAQUE_NAME = ".wh..wh..opq"
AUFS_LINKS = ".wh..wh.plnk"
"""AUFS kept hard link targets in this directory; layers made by old Docker versions still carry it."""

OVERLAY_PREFIXES = ("trusted.overlay.", "user.overlay.")
OPAQUE_XATTR = "trusted.overlay.opaque"
OPAQUE_USER_XATTR = "user.overlay.opaque"


class Mark(enum.Enum):
    """What a reserved name in an archive says."""

    WHITEOUT = "whiteout"
    """`.wh.NAME` hides NAME of the layers below."""
    OPAQUE = "opaque"
    """`.wh..wh..opq` hides all lower content of its directory."""
    METADATA = "metadata"
    """Other `.wh..wh.*`: AUFS housekeeping without meaning for anyone else."""


def parse(base: str, entry: str) -> tuple[Mark, str] | None:
    """Interpret the last component of an archive name.

    Returns:
        None for an ordinary name, else the mark and the hidden name ("" unless it is a WHITEOUT).

    Raises:
        UnsafeEntry: a whiteout of "", "." or ".." (threat 6).
    """
    if not base.startswith(PREFIX):
        return None
    if base == OPAQUE_NAME:
        return Mark.OPAQUE, ""
    if base.startswith(META_PREFIX):
        return Mark.METADATA, ""
    hidden = base[len(PREFIX) :]
    if hidden in {"", ".", ".."}:
        raise UnsafeEntry(entry, "it is a whiteout without a usable name")
    return Mark.WHITEOUT, hidden


def name_of(hidden: str) -> str:
    """The archive name (last component) that hides `hidden`."""
    return PREFIX + hidden


def opaque_xattr(*, userxattr: bool) -> str:
    """The attribute that makes an overlay directory opaque; `userxattr` as in the mount option."""
    return OPAQUE_USER_XATTR if userxattr else OPAQUE_XATTR


def is_overlay_whiteout(st: os.stat_result) -> bool:
    """A character device 0:0, which overlayfs takes as a deleted name."""
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def is_overlay_opaque(fd: int, *, userxattr: bool = False) -> bool:
    """Whether an open directory is marked opaque.

    Args:
        fd: descriptor of the directory (not O_PATH).
        userxattr: look at `user.overlay.opaque` instead of `trusted.overlay.opaque`.
    """
    try:
        return os.getxattr(fd, opaque_xattr(userxattr=userxattr)) == b"y"
    except OSError:
        return False
