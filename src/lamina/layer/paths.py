"""Names in an archive as clean component lists that cannot leave the root (threat 1)."""

from __future__ import annotations

from lamina.errors import Invalid
from lamina.layer.limits import LayerLimit, Limits


class UnsafeEntry(Invalid):
    """An archive entry tries something no layer may do; nothing was written for it.

    Attributes:
        entry: its name in the archive.
        why: what it tries.
    """

    def __init__(self, entry: str, why: str) -> None:
        super().__init__(f"refusing layer entry {entry!r}: {why}")
        self.entry = entry
        self.why = why


def clean(name: str, limits: Limits, *, entry: str | None = None) -> list[str]:
    """Split an archive path into components, without "", "." and "..".

    Absolute names are taken from the root. ".." removes the component before it, as text: what the component is on
    disk plays no role (Docker's and Go's rule).

    Args:
        name: the path to clean.
        limits: `max_depth` applies.
        entry: the entry to name in errors when `name` is its link target.

    Raises:
        UnsafeEntry: a ".." would leave the root, or the name holds a NUL.
        LayerLimit: too many components.
    """
    if "\0" in name:
        raise UnsafeEntry(entry or name, "its path holds a NUL byte")
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise UnsafeEntry(entry or name, f"its path {name!r} leaves the root")
            parts.pop()
        elif part and part != ".":
            parts.append(part)
    if len(parts) > limits.max_depth:
        message = f"path of {len(parts)} components in entry {(entry or name)[:60]!r}..."
        raise LayerLimit("max_depth", limits.max_depth, message, entry or name)
    return parts
