"""How a container's root file system is mounted, as the document that its record keeps, and done and undone from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamina.linux import mounts


def overlay_doc(
    lower: Sequence[str], upper: str, work: str, target: str, options: Sequence[str] = ()
) -> dict[str, Any]:
    """The document of an overlay; lowers are topmost first (`lamina.linux.mounts.Overlay`)."""
    return {
        "type": "overlay",
        "lower": list(lower),
        "upper": upper,
        "work": work,
        "target": target,
        "options": list(options),
    }


def directory_doc(path: str) -> dict[str, Any]:
    """The document of a directory that is there already and stays."""
    return {"type": "directory", "target": path}


def path_of(doc: Mapping[str, Any]) -> str:
    """Where the root file system is, once mounted."""
    return str(doc["target"])


def mount(doc: Mapping[str, Any]) -> str:
    """Mounts the root file system, once; returns where it is.

    Raises:
        SyscallFailed: the kernel said no.
    """
    target = path_of(doc)
    if doc["type"] == "overlay" and target not in mounts.mount_points(target):
        mounts.Overlay(tuple(doc["lower"]), target, doc["upper"], doc["work"], tuple(doc.get("options", ()))).execute()
    return target


def unmount(doc: Mapping[str, Any]) -> None:
    """Undoes `mount`, and any mount made below since; nothing mounted is success.

    Raises:
        SyscallFailed: the kernel said no.
    """
    if doc.get("type") != "overlay":
        return
    for point in reversed(mounts.mount_points(path_of(doc))):
        mounts.Unmount(point, detach=True).execute()
