"""What `apply_layer` is told and what it answers: values and errors, without the code that does it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

from lamina.errors import Conflict, Denied, Unavailable
from lamina.layer.entry import Kind
from lamina.values import dataclass, field


class WhiteoutMode(enum.Enum):
    """What becomes of whiteouts."""

    OVERLAY = "overlay"
    """They are kept, in overlayfs form, for the kernel to apply at mount time."""
    REMOVE = "remove"
    """They delete from the tree what it held before this layer."""


class Ownership(enum.Enum):
    """What becomes of uid and gid."""

    KEEP = "keep"
    """Files get the owner the archive names."""
    IGNORE = "ignore"
    """Files belong to whoever unpacks (one uid, rootless without a sub-id range)."""


class Devices(enum.Enum):
    """What becomes of block and character devices (threat 8)."""

    CREATE = "create"
    SKIP = "skip"


class NeedsParents(Conflict):
    """A layer applied alone refers to something in the layers below; apply it on the merged tree instead.

    Attributes:
        entry: the archive entry.
        path: the path it needs, relative to the root.
    """

    def __init__(self, entry: str, path: str) -> None:
        super().__init__(f"layer entry {entry!r} needs {path!r} of a lower layer")
        self.entry = entry
        self.path = path


class ApplyFailed(Unavailable):
    """The file system refused an entry (full disk, quota, I/O error, ...).

    Attributes:
        entry: the archive entry, "" for work after the last one.
        errno: the system's error number.
    """

    def __init__(self, entry: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        super().__init__(f"cannot unpack {entry!r}: {reason}" if entry else f"cannot unpack layer: {reason}")
        self.entry = entry
        self.errno = error.errno


class ApplyDenied(Denied):
    """The caller may not create what an entry asks for.

    Attributes:
        entry: the archive entry.
        errno: the system's error number.
    """

    def __init__(self, entry: str, error: OSError) -> None:
        super().__init__(
            f"cannot unpack {entry!r}: {error.strerror}",
            hint="unpack as root, or let lamina ignore ownership and devices",
        )
        self.entry = entry
        self.errno = error.errno


@dataclass(frozen=True, slots=True)
class LowerEntry:
    """What the layers below hold at a path.

    Attributes:
        kind: DIR or SYMLINK matter; anything else is in the way.
        mode: permission bits of a directory.
        uid: its owner.
        gid: its group.
        mtime: nanoseconds.
        xattrs: its attributes, overlay ones excluded.
        linkname: target of a symlink.
    """

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    linkname: str = ""


LowerLookup = Callable[[str], LowerEntry | None]
"""Maps a canonical path ("usr/lib") to what the merged layers below hold there, without following a final link."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_layer` did.

    Attributes:
        entries: archive entries, whiteouts included.
        files: regular files made.
        bytes: their logical bytes.
        stream_bytes: bytes of the archive, trailing padding included.
        implicit_dirs: OVERLAY mode without `lower`: directories made because an entry lies below them, though the
            archive has no entry for them and no opaque mark hides the layers below; sorted. Their attributes are
            0755, owner of the process. If a lower layer has a directory there, copy its attributes; if it has a
            symbolic link there, the layer must be applied on the merged tree instead.
        whiteouts: names hidden.
        opaques: directories marked opaque (OVERLAY) or emptied (REMOVE) by `.wh..wh..opq`.
        devices_skipped: devices left out by policy, and 0:0 character devices, which are always left out.
        xattrs_skipped: attributes refused by the file system or dropped because they steer overlay stores.
    """

    entries: int
    files: int
    bytes: int
    stream_bytes: int
    implicit_dirs: tuple[str, ...]
    whiteouts: int
    opaques: int
    devices_skipped: int
    xattrs_skipped: int
